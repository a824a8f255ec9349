package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// fault is a row of the table.
type fault struct {
	name, holds string
	// log is a part of the line that names the cause, or two parts of it with " … " between them. The line must be
	// logged a few times, but not thousands of times. "" is not checked.
	log string
	// root marks a fault that needs namespaces of its own.
	root bool
	// busy marks a fault that keeps the processor busy. Such faults run one at a time; the others mostly wait.
	busy bool
	// ttl is the life of DNS records in seconds; 0 stands for an hour.
	ttl   int
	setup setup
	// connections is the number of clients that ask during the fault, and pause how long each waits before a question.
	connections int
	pause       time.Duration
	// fresh is the number of domains that are asked for the first time during the fault.
	fresh int
	// sure means that only the best answer is right, because policyd can always give it.
	sure bool
	// steps cause the fault, end it, and check what must hold.
	steps []step
}

// step is one step of a fault. It returns its measurements; package must ends the fault if a condition does not hold.
type step func(context.Context, *scene) string

// shortTTL makes the cache expire during a fault.
const shortTTL = 2

// littleMemory is the memory limit of two faults, in bytes; the cache alone could take 400 MiB.
const littleMemory = 64 << 20

// The log lines that name a cause.
const (
	dead        = "a DNS server " // does not answer, or answers late if the machine stood still just before
	cannotWrite = "state database cannot be written"
	canWrite    = "state database can be written again"
	vanished    = "state database was removed or replaced"
	keeps       = "keeping a secure answer although an insecure one arrived"
)

// faults is the table.
func faults() []fault {
	const (
		outageHolds = "secure answers continue to protect, the rest is TEMP and no route, and transport answers " +
			"come in time"
		flood = "memory, descriptors and queries stay bounded, and transport answers stay under port26.wait " +
			"(200 ms) at p99.9"
		memoryHolds = "the cache evicts in time, memory stays bounded and every lookup is answered"
	)
	outage := func(f fault, set func(*dnstest.Server, bool)) fault {
		f.ttl, f.connections, f.pause, f.fresh = shortTTL, 12, 20*time.Millisecond, 10
		f.steps = []step{resolver(set, true), span(time.Minute, 15*time.Second), resolver(set, false), recovers}
		return f
	}
	slow := func(d time.Duration) func(*dnstest.Server, bool) {
		return func(s *dnstest.Server, on bool) {
			s.SetDelay(0)
			if on {
				s.SetDelay(d)
			}
		}
	}
	load := func(connections int, pause time.Duration, f fault) fault {
		f.connections, f.pause = connections, pause*time.Millisecond
		return f
	}
	memory := setup{Command: daemon.Command{Shell: fmt.Sprintf("export GOMEMLIMIT=%d; ", littleMemory)}}
	return []fault{
		outage(fault{name: "resolver: dead", holds: outageHolds, log: dead}, (*dnstest.Server).SetDead),
		outage(fault{name: "resolver: answers after 30 s", holds: outageHolds, log: dead}, slow(30*time.Second)),
		outage(fault{name: "resolver: answers garbage", holds: outageHolds, log: dead}, (*dnstest.Server).SetGarbage),
		outage(fault{name: "resolver: answers after 2 s", holds: "answers come late, or TEMP does; no route",
			log: dead}, slow(2*time.Second)),
		{name: "resolver: changes its mind from secure to insecure", ttl: 65, steps: []step{changesItsMind},
			holds: "the secure answer is kept until it expires, and no refresh replaces it",
			log:   keeps},
		{name: "resolver: lies about AD", ttl: shortTTL, log: `result="echoes AD"`,
			steps: []step{liesFromTheStart, liesLater},
			holds: "nothing from it counts as secure, from the first moment; prefixes continue to protect; an " +
				"honest resolver is trusted again"},
		load(8, 20, fault{name: "resolver: restarts", ttl: shortTTL, log: dead,
			steps: []step{resolverRestarts, resolverRestarts, atLength(resolverRestarts), atLength(resolverRestarts)},
			holds: "no answer is weaker while it is gone, and the best ones come back by themselves each time"}),
		{name: "resolver: replaced in resolv.conf", root: true, ttl: 300, setup: setup{resolvConf: true},
			steps: []step{replaced, replacedByUntrusted},
			holds: "the new one is used and tested first, nothing from the old one is secure any more, and a file " +
				"that is missing for a moment changes nothing"},
		load(4, 10, fault{name: "disk: state directory full", root: true, ttl: shortTTL, log: cannotWrite,
			setup: setup{state: "512k"},
			// More policies than the free pages of the database can hold.
			steps: []step{fill(true), learn("full", 200), logs(cannotWrite), fill(false), restart((*scene).stop),
				enforced},
			holds: "policies hold from memory, and are on disk after a restart once there is room"}),
		{name: "disk: state directory read-only", root: true, ttl: shortTTL, log: cannotWrite,
			setup: setup{state: "4m"},
			// While the policy host is down, only policies on disk can be enforced.
			steps: []step{learn("old", 1), restart(func(s *scene) { s.stop(); s.remount(unix.MS_RDONLY) }), enforced,
				do((*scene).openPolicies), learn("new", 1), logs(cannotWrite, "mtasts.db"),
				do(func(s *scene) { s.remount(0) }), logs(canWrite, "mtasts.db"), restart((*scene).kill), enforced},
			holds: "policies on disk hold, new ones hold from memory, and are written within seconds when they can be"},
		load(4, 10, fault{name: "disk: state directory vanishes", root: true, ttl: shortTTL, log: vanished,
			steps: []step{do((*scene).removeState), learn("afterwards", 1), logs(vanished), restart((*scene).stop),
				enforced}, holds: "the directory is made again, and no policy is lost"}),
		{name: "disk: kill -9 in the middle of writes", root: true, busy: true, ttl: 300,
			steps: []step{killed, do((*scene).closePolicies), enforced},
			holds: "every policy on which an answer was based is enforced afterwards, with the policy host down"},
		load(8, 10, fault{name: "clients: 10,000 connections", busy: true, sure: true, steps: []step{manyConnections},
			holds: "the one that has been idle longest makes room, and every client that asks is answered"}),
		load(8, 10, fault{name: "clients: slow and half requests", sure: true, steps: []step{slowClients},
			setup: setup{settings: `server.idle_timeout = "8s"`},
			log:   "request not complete in time; connection closed",
			holds: "each is closed when its time is over, and counted; others do not notice"}),
		load(8, 10, fault{name: "clients: malformed netstrings", busy: true, sure: true, steps: []step{malformed},
			log:   "malformed request; connection closed",
			holds: "each is closed without an answer and counted; others do not notice"}),
		{name: "clients: 1,000 requests pipelined", busy: true, steps: []step{pipelined},
			holds: "1,000 answers in the order of the requests"},
		{name: "clients: mass reconnects", busy: true, steps: []step{reconnects},
			holds: "all are answered, and no descriptor stays open"},
		load(8, 2, fault{name: "signals: SIGHUP storm under load", busy: true, sure: true, steps: []step{hangups},
			holds: "every lookup gets its best answer; signals that come during a reload count as one"}),
		load(8, 2, fault{name: "signals: SIGTERM storm under load", busy: true, setup: setup{passed: true},
			steps: []step{terminations}, holds: "lookups under way are answered, and the exit status is 0"}),
		load(16, 1, fault{name: "signals: upgrade with a passed listener under load", busy: true, sure: true,
			setup: setup{passed: true}, steps: []step{handover},
			holds: "no lookup fails: requests that come while no policyd runs are answered by the next one"}),
		load(4, 20, fault{name: "limits: file descriptors exhausted", busy: true, fresh: 50,
			log:   "cannot accept connections",
			setup: setup{Command: daemon.Command{Shell: "ulimit -n 48; "}}, steps: []step{fewFiles, recovers},
			holds: "idle connections make room, lookups are answered or TEMP, and policyd recovers when the clients " +
				"have gone"}),
		load(4, 5, fault{name: "limits: GOMEMLIMIT reached", busy: true, steps: []step{fillMemory}, setup: memory,
			holds: memoryHolds}),
		load(4, 5, fault{name: "limits: memory limit of the control group reached", root: true, busy: true,
			steps: []step{fillMemory}, setup: setup{memory: littleMemory}, holds: memoryHolds}),
		load(4, 10, fault{name: "senders: 100,000 sender domains in a minute", busy: true, sure: true, holds: flood,
			steps: []step{senderFlood(0)}}),
		load(4, 10, fault{name: "senders: the same, resolver at 100 ms", busy: true, sure: true, holds: flood,
			steps: []step{senderFlood(100 * time.Millisecond)}}),
		soak(shortSoak),
	}
}

// do is a step that measures nothing.
func do(f func(*scene)) step {
	return func(_ context.Context, s *scene) string {
		f(s)
		return ""
	}
}

// atLength is a step that -short leaves out.
func atLength(f step) step {
	return func(ctx context.Context, s *scene) string {
		if s.config.short {
			return ""
		}
		return f(ctx, s)
	}
}

// span waits for the full or the short form of a time.
func span(full, short time.Duration) step {
	return func(ctx context.Context, s *scene) string {
		if s.config.short {
			full = short
		}
		must.Do(daemon.Sleep(ctx, full))
		return ""
	}
}

// logs waits until a line with all the words is in the log.
func logs(words ...string) step {
	return func(ctx context.Context, s *scene) string {
		must.Do(s.p.Logged(ctx, words...))
		return ""
	}
}

// recovers checks that all answers are the best again within seconds. Back-offs of minutes would show.
func recovers(ctx context.Context, s *scene) string {
	return s.p.recover(ctx, slices.Concat(s.fresh, s.env.all))
}

// restart ends the load and policyd, closes the policy host and starts policyd again: only policies on disk hold then.
func restart(end func(*scene)) step {
	return func(ctx context.Context, s *scene) string {
		asked := s.endLoad()
		end(s)
		s.closePolicies()
		s.p.again(ctx)
		return asked
	}
}

func (s *scene) stop()          { must.Do(s.p.Stop()) }
func (s *scene) kill()          { s.p.Kill() }
func (s *scene) hangUp()        { must.Do(s.p.Signal(syscall.SIGHUP)) }
func (s *scene) removeState()   { must.Do(os.Rename(s.p.state, s.p.state+".gone")) } // at one moment, unlike RemoveAll
func (s *scene) openPolicies()  { must.Do(s.env.policies.Open()) }
func (s *scene) closePolicies() { s.env.policies.Close() }
