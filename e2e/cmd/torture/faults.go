package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// shortTTL lets what is in the cache expire during a fault.
const shortTTL = 2

// littleMemory is the limit of two faults, in bytes; the cache alone could take 400 MiB.
const littleMemory = 64 << 20

// faults is the table.
func faults() []fault {
	const (
		outageHolds = "secure answers go on to protect, the rest is TEMP and no route, and transport answers come in time"
		dead        = "a DNS server does not answer"
		cannotWrite = "state database cannot be written"
		flood       = "memory, descriptors and queries stay bounded, and transport answers stay under port26.wait (200 ms) at p99.9"
		memoryHolds = "the cache evicts in time, memory stays bounded and every lookup is answered"
	)
	every := func(f fault) fault { f.connections, f.pause = 4, 10*time.Millisecond; return f }
	outage := func(f fault, set func(*dnstest.Server, bool)) fault {
		f.ttl, f.connections, f.pause, f.fresh = shortTTL, 12, 20*time.Millisecond, 10
		f.recovers, f.happen = true, broken(set)
		return f
	}
	slow := func(d time.Duration) func(*dnstest.Server, bool) {
		return func(s *dnstest.Server, on bool) { s.SetDelay(map[bool]time.Duration{true: d}[on]) }
	}
	return []fault{
		outage(fault{name: "resolver: dead", holds: outageHolds, log: dead}, (*dnstest.Server).SetDead),
		outage(fault{name: "resolver: answers after 30 s", holds: outageHolds, log: dead}, slow(30*time.Second)),
		outage(fault{name: "resolver: answers garbage", holds: outageHolds, log: dead}, (*dnstest.Server).SetGarbage),
		outage(fault{name: "resolver: answers after 2 s", holds: "answers come late, or TEMP does; no route",
			log: "a DNS server answers late"}, slow(2*time.Second)),
		{
			name: "resolver: changes its mind from secure to insecure", ttl: 60, happen: changesItsMind,
			holds: "the secure answer is kept until it expires, and no refresh replaces it",
			log:   "keeping a secure answer although an insecure one arrived",
		},
		{
			name: "resolver: lies about AD", ttl: shortTTL, happen: liesAboutAD, log: `result="echoes AD"`,
			holds: "nothing from it counts as secure, from the first moment; prefixes go on to protect; an honest resolver is trusted again",
		},
		{
			name: "resolver: restarts", ttl: shortTTL, connections: 8, pause: 20 * time.Millisecond, happen: restarts,
			log:   dead,
			holds: "no answer is weaker while it is gone, and the best ones come back by themselves each time",
		},
		{
			name: "resolver: replaced in resolv.conf", root: true, ttl: 300, setup: setup{resolvConf: true},
			prepare: nameServers, happen: replaced,
			holds: "the new one is used and tested first, nothing from the old one is secure any more, and a file that is missing for a moment changes nothing",
		},
		every(fault{
			name: "disk: state directory full", root: true, ttl: shortTTL, setup: setup{state: "512k"},
			happen: diskFull, log: cannotWrite,
			holds: "policies hold from memory, and are on disk after a restart once there is room",
		}),
		{
			name: "disk: state directory read-only", root: true, ttl: shortTTL, setup: setup{state: "4m"},
			happen: diskReadOnly, log: cannotWrite,
			holds: "policies on disk hold, new ones hold from memory, and are written within seconds when they can be",
		},
		every(fault{
			name: "disk: state directory vanishes", root: true, ttl: shortTTL, happen: diskVanishes,
			log:   "state database was removed or replaced",
			holds: "the directory is made again, and no policy is lost",
		}),
		{
			name: "disk: kill -9 in the middle of writes", root: true, busy: true, ttl: 300, happen: killed,
			holds: "every policy that an answer was given from is enforced afterwards, with the policy host down",
		},
		{name: "clients: 10,000 connections", busy: true, sure: true, connections: 8, pause: 10 * time.Millisecond,
			happen: manyConnections,
			holds:  "the one that has been idle longest makes room, and every client that asks is answered"},
		{name: "clients: slow and half requests", setup: setup{server: `idle_timeout = "3s"`}, sure: true,
			connections: 8, pause: 10 * time.Millisecond,
			happen: slowClients, log: "request not complete in time; connection closed",
			holds: "each is closed when its time is over, and counted; others do not notice"},
		{name: "clients: malformed netstrings", busy: true, sure: true, connections: 8, pause: 10 * time.Millisecond,
			happen: malformed,
			log:    "malformed request; connection closed",
			holds:  "each is closed without an answer and counted; others do not notice"},
		{name: "clients: 1,000 requests pipelined", busy: true, happen: pipelined,
			holds: "1,000 answers in the order of the requests"},
		{name: "clients: mass reconnects", busy: true, happen: reconnects,
			holds: "all are answered, and no descriptor stays open"},
		{name: "signals: SIGHUP storm under load", busy: true, sure: true, connections: 8, pause: 2 * time.Millisecond,
			happen: hangups,
			holds:  "every lookup gets its best answer; signals that come during a reload count as one"},
		{name: "signals: SIGTERM storm under load", busy: true, setup: setup{passed: true}, connections: 8,
			pause: 2 * time.Millisecond, happen: terminations,
			holds: "lookups under way are answered, and the exit status is 0"},
		{name: "signals: upgrade with a passed listener under load", busy: true, setup: setup{passed: true},
			sure: true, connections: 16, pause: time.Millisecond,
			happen: handover, holds: "no lookup fails: what comes while no policyd runs is answered by the next one"},
		{name: "limits: file descriptors exhausted", busy: true,
			setup: setup{Command: daemon.Command{OpenFiles: 48}}, fresh: 50, connections: 4,
			pause: 20 * time.Millisecond, recovers: true, happen: fewFiles, log: "cannot accept connections",
			holds: "idle connections make room, lookups are answered or TEMP, and all is well when the clients have gone"},
		{name: "limits: GOMEMLIMIT reached", busy: true, connections: 4, pause: 5 * time.Millisecond,
			happen: fillMemory, holds: memoryHolds,
			setup: setup{Command: daemon.Command{Variables: []string{fmt.Sprintf("GOMEMLIMIT=%d",
				littleMemory)}}}},
		{name: "limits: memory limit of the control group reached", root: true, busy: true, connections: 4,
			pause: 5 * time.Millisecond,
			setup: setup{memory: littleMemory}, happen: fillMemory, holds: memoryHolds},
		{name: "senders: 100,000 sender domains in a minute", busy: true, sure: true, connections: 4,
			pause: 10 * time.Millisecond, holds: flood,
			happen: func(ctx context.Context, s *scene) (string, error) { return senderFlood(ctx, s, 0) }},
		{name: "senders: the same, resolver at 100 ms", busy: true, sure: true, connections: 4,
			pause: 10 * time.Millisecond, holds: flood,
			happen: func(ctx context.Context, s *scene) (string, error) {
				return senderFlood(ctx, s,
					100*time.Millisecond)
			}},
		soak(shortSoak),
	}
}

// broken breaks the resolver for a while.
func broken(set func(*dnstest.Server, bool)) func(context.Context, *scene) (string, error) {
	return func(ctx context.Context, s *scene) (string, error) {
		set(s.world.dns, true)
		err := s.span(ctx, time.Minute, 15*time.Second)
		set(s.world.dns, false)
		return "", err
	}
}

// restart stops policyd, closes the policy host and starts policyd again: what holds then is what was written.
func (s *scene) restart(ctx context.Context, stop func() error) error {
	err := stop()
	s.world.policies.Close()
	return errors.Join(err, s.p.again(ctx))
}
