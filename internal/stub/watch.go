package stub

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// watch reads resolv.conf and asks the servers that did not answer, or were slow, a question of our own, every two
// seconds until ctx ends: names that back off would not be asked for. During an outage it asks all servers.
func (s *Stub) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.followResolvConf()
			s.watchServers(ctx, s.now.Load())
		}
	}
}

func (s *Stub) watchServers(ctx context.Context, now *state) {
	began := time.Now()
	questions, failing := now.health.failing()
	sound := make([]bool, len(now.servers))
	var all sync.WaitGroup
	for i, server := range now.servers {
		if failing || now.health.doubtful(server) {
			all.Go(func() { sound[i] = s.watchServer(ctx, now, server) && slices.Contains(now.candidates(), server) })
		}
	}
	all.Wait()
	if !failing || ctx.Err() != nil {
		return
	}
	if now.health.watched(began, !slices.Contains(sound, true)) {
		now.health.succeeded()
	} else if len(questions) == outageNames {
		s.askAgain(ctx, now, questions, sound)
	}
}

// watchServer asks one server a question of our own, and reports whether the answer is of use.
func (s *Stub) watchServer(ctx context.Context, now *state, server Server) bool {
	log := now.options.Logger
	name, _ := dns.OnWire(now.options.SelfTestNames[0])
	began := time.Now()
	answer, err := s.query(ctx, now, server, now.options.Timeout, inet(name, dns.TypeNS))
	took := time.Since(began)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		if now.health.isSilent(server) {
			log.Warn("a DNS server does not answer", "server", server.String(), "reason", networkReason(err))
		}
		return false
	case took >= slowAnswer:
		if now.health.isLate(server, true) {
			log.Warn("a DNS server answers late", "server", server.String(), "took", took.Round(time.Millisecond))
		}
	default:
		if now.health.isLate(server, false) {
			log.Info("a DNS server answers in time again", "server", server.String())
		}
	}
	return useful(answer)
}

// askAgain asks the servers that answer for names that have failed: a resolver without an uplink still answers what it
// has in its cache, such as our own question.
func (s *Stub) askAgain(ctx context.Context, now *state, questions []dns.Question, sound []bool) {
	var all sync.WaitGroup
	var answered atomic.Bool
	for i, server := range now.servers {
		for _, q := range questions {
			if !sound[i] {
				continue
			}
			all.Go(func() {
				answer, err := s.send(ctx, now, server, now.options.Timeout, inet(miekg.Fqdn(q.Name), q.Type))
				if err == nil && useful(answer) && !answered.Swap(true) {
					now.health.succeeded()
				}
			})
		}
	}
	all.Wait()
}
