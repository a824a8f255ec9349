// Package lookup answers socketmap requests (socketmap_table(5)): it reads the
// key, has the facts gathered and the decision made, and replies. It is where a
// time budget, a panic or a full queue ends in a safe answer: TEMP for a TLS
// policy, NOTFOUND for a route.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/socketmap"
)

// Settings are what a reload can change.
type Settings struct {
	Policy    policy.Options
	Overrides *policy.Overrides
	// Site knows what this site receives itself and may wait to find out; CachedSite is the
	// same without waiting.
	Site, CachedSite policy.OwnSite
	// Relays knows Postfix's own relay hosts; nil knows none.
	Relays policy.Relays
	// Wait is the longest that a transport lookup takes; zero means 200 ms.
	Wait time.Duration
	// Budget is the longest that a TLS policy lookup takes; zero means 10 s.
	Budget time.Duration
	Log    LogMode
}

// Sources are where a Service gets its facts.
type Sources struct {
	// Resolver has a cache, which it alone uses where dns.Effort.CacheOnly is set.
	Resolver dns.Resolver
	// Version is that of the cache; nil: an answer is never given again without a look at each fact.
	Version func() dnscache.Version
	// STS and CachedSTS are the same two views of MTA-STS policies; nil knows nothing. PassiveSTS and
	// CachedPassiveSTS are for lookups that strangers cause, which neither fetch a policy nor have it renewed.
	STS, CachedSTS, PassiveSTS, CachedPassiveSTS policy.STS
	// Probes knows what probes of port 26 have found; nil: nothing is known.
	Probes policy.Probes
	// WantProbe makes a host due for a probe, and must not block. It is called after TLS-policy lookups only: those are for
	// mail that leaves, while untrusted senders choose the domains of the transport map. nil: nothing is probed.
	WantProbe func(host string)
	// Observe is asked once for every kind of answers, if it is not nil. What it returns is told of each answer of that kind
	// how long it took, and must not block.
	Observe func(Kind) func(took time.Duration)
}

// Kind is a kind of answers, for metrics: every field has a small fixed set of values.
type Kind struct {
	// Map is tls-policy, tls-policy-tlsrpt or transport; an alias counts as what it stands for.
	Map string
	// Status is the status word of the reply.
	Status string
	// Cached is set when nothing had to be asked or waited for.
	Cached bool
	// Decided is set when there was a decision: the key was a next hop and the mode is not off. The fields
	// below are empty without.
	Decided bool
	// Source, Class and Reason are those of the Decision, as text.
	Source, Class, Reason string
	// Unsigned is set when a policy rests on an unsigned MX RRset.
	Unsigned bool
}

// Service answers lookups. Make one with New.
type Service struct {
	sources    Sources
	settings   atomic.Pointer[Settings]
	background *background
	changes    *changes
	memory     *memory
	counters   counters
	unknown    unknownMaps
	// relayLookups limits the warning about relay hosts that cannot be looked up.
	relayLookups oncelog.Limiter
	log          *slog.Logger
	started      time.Time // where the clock begins
}

// New returns a Service that answers from res under s. Run it for the sake of lookups of routes that
// are not in the cache.
func New(res Sources, s Settings, log *slog.Logger) *Service {
	svc := &Service{sources: res, log: log, changes: newChanges(), memory: newMemory(), started: time.Now()}
	svc.counters.observe = res.Observe
	svc.background = newBackground(svc.gatherRoute, log)
	svc.Configure(s)
	return svc
}

// Configure puts new settings in force for all requests that begin after it.
func (s *Service) Configure(set Settings) {
	if set.Wait <= 0 {
		set.Wait = 200 * time.Millisecond
	}
	if set.Budget <= 0 {
		set.Budget = 10 * time.Second
	}
	s.settings.Store(&set)
}

// clock tells the time since the service was made; it goes on when somebody sets that of the machine.
func (s *Service) clock() time.Duration { return time.Since(s.started) }

// Run works off background lookups until ctx ends.
func (s *Service) Run(ctx context.Context) error { return s.background.run(ctx) }

// handler counts and observes the answers of one map, and turns a panic into the safe one: nothing in here may
// look like an answer by accident.
func (s *Service) handler(m mapID) socketmap.HandlerFunc {
	answer := s.tlsPolicy
	if m == mapTransport {
		answer = s.transport
	}
	return func(ctx context.Context, req socketmap.Request) socketmap.Reply {
		now := s.clock()
		a := s.guarded(answer, call{ctx: ctx, m: m, key: key(m, req.Key), set: s.settings.Load(), now: now})
		a.kind.count(s, now)
		return a.reply
	}
}

// key is the part of a request's key that is looked at: of a recipient the domain, so that no local part gets
// any further.
func key(m mapID, k string) string {
	if m == mapTransport {
		return k[strings.LastIndexByte(k, '@')+1:]
	}
	return k
}

// call is a lookup in one of the maps.
type call struct {
	ctx context.Context
	m   mapID
	key string
	set *Settings
	now time.Duration // when the request came
}

// answered is what becomes of a call. decided is set where decision is one.
type answered struct {
	reply    socketmap.Reply
	kind     *counted
	next     policy.Nexthop
	decision policy.Decision
	decided  bool
	cached   bool
	// probe are the hosts that a route could lead to once their port of implicit TLS is open.
	probe []string
}

// kindIn says of which kind the answer is.
func (a *answered) kindIn(m mapID) Kind {
	k := Kind{Map: m.String(), Status: a.reply.Status.String(), Cached: a.cached, Decided: a.decided}
	if a.decided {
		k.Source, k.Class, k.Reason, k.Unsigned = a.decision.Source.String(), a.decision.Class(), string(a.decision.Reason), a.decision.Unsigned
	}
	return k
}

// guarded turns a panic into TEMP, or NOTFOUND for a route and where policies are not enforced.
func (s *Service) guarded(answer func(call) answered, c call) (a *answered) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(c.m.String(), fmt.Sprint(p))
			a = &answered{reply: socketmap.Temp("internal error")}
			if c.m == mapTransport || c.set.Policy.Mode != policy.ModeEnforce {
				a.reply = socketmap.NotFound()
			}
			a.kind = s.counters.of(c.m, a)
		}
	}()
	if a := s.memory.recall(c, s.sources.Version); a != nil {
		s.noteAgain(c.m, a, c.set)
		s.wantProbes(c, a)
		return a
	}
	fresh := answer(c)
	s.wantProbes(c, &fresh)
	if fresh.kind == nil {
		fresh.kind = s.counters.of(c.m, &fresh)
	}
	return &fresh
}

// tlsPolicy answers smtp_tls_policy_maps: from what is known where that suffices, otherwise within the budget.
func (s *Service) tlsPolicy(c call) answered {
	next, ok := policy.ParseNexthop(c.key, c.set.Policy.Port26.Port)
	if !ok || c.set.Policy.Mode == policy.ModeOff {
		return answered{reply: socketmap.NotFound(), cached: true}
	}
	c.key, next.Name = strings.Clone(c.key), strings.Clone(next.Name)
	seen := &recorder{sources: &s.sources, sts: s.sources.CachedSTS}
	engine := seen.view(c.set)
	engine.Relays = c.set.Relays
	facts, err := engine.Gather(c.ctx, next, c.set.Policy)
	a := answered{next: next, decided: true, cached: err == nil}
	if err != nil {
		budget, cancel := context.WithTimeout(c.ctx, c.set.Budget)
		defer cancel()
		engine.Resolver, engine.STS, engine.Waits = s.sources.Resolver, s.sources.STS, true
		// What cannot be had even now leaves facts that trust nothing.
		facts, _ = engine.Gather(budget, next, c.set.Policy)
	}
	a.decision = policy.Decide(facts, c.set.Policy)
	if s.sources.WantProbe != nil {
		a.probe = policy.ProbeTargets(facts, c.set.Overrides, c.set.Policy)
	}
	s.note(c.m, next, &a.decision, c.set)
	a.reply = a.decision.Reply
	if a.decision.Reason == policy.ReasonOwnRelay {
		if times, due := s.relayLookups.Due(); due {
			s.log.Warn("relay host of Postfix cannot be looked up; delivering without a TLS policy",
				"nexthop", next.String(), "reason", a.decision.Why[0], "times", times)
		}
		return a // not remembered: it depends on the configuration of Postfix
	}
	if c.m == mapTLSRPT && a.reply.Status == socketmap.StatusOK {
		a.reply.Text += a.decision.TLSRPT
	}
	return s.remembered(c, a, seen)
}

// wantProbes makes the hosts of a TLS-policy answer due for a probe, unless this site receives the domain itself or cannot
// find out: no route follows then. A site that has not been read yet does not delay the probe.
func (s *Service) wantProbes(c call, a *answered) {
	if len(a.probe) == 0 || c.set.CachedSite == nil {
		return
	}
	own, _, err := c.set.CachedSite.Own(c.ctx, a.next.Name)
	switch {
	case errors.Is(err, dns.ErrNotCached):
	case own, err != nil, slices.ContainsFunc(a.probe, c.set.CachedSite.OwnHost):
		return
	}
	for _, host := range a.probe {
		s.sources.WantProbe(host)
	}
}

// transport answers transport_maps, never later than Wait: while qmgr(8) waits, no mail moves.
func (s *Service) transport(c call) answered {
	next, ok := policy.ParseRecipient(c.key)
	if !ok || c.set.Policy.Mode == policy.ModeOff || c.set.Policy.Port26.Mode == policy.PortOff {
		return answered{reply: socketmap.NotFound(), cached: true}
	}
	// What is kept of the request must not keep all of it: there may be a local part.
	c.key, next.Name = strings.Clone(c.key), strings.Clone(next.Name)
	seen := &recorder{sources: &s.sources, sts: s.sources.CachedPassiveSTS, site: c.set.CachedSite}
	engine := seen.view(c.set)
	engine.Effort.Untrusted = true
	if s.sources.Probes != nil {
		engine.Probes = recordedProbes{seen}
	}
	if seen.site != nil {
		engine.Site = recordedSite{seen}
	}
	facts, err := engine.GatherRoute(c.ctx, next, c.set.Policy)
	a := answered{next: next, cached: err == nil}
	if err != nil {
		if facts, ok = s.background.wait(c.ctx, task{next, c.set}); !ok {
			a.reply = socketmap.NotFound()
			return a
		}
	}
	a.decision, a.decided = policy.Route(facts, c.set.Policy), true
	s.note(c.m, next, &a.decision, c.set)
	a.reply = a.decision.Reply
	return s.remembered(c, a, seen)
}

// remembered returns a, which may be given again if it rests on what seen has recorded.
func (s *Service) remembered(c call, a answered, seen *recorder) answered {
	a.kind = s.counters.of(c.m, &a)
	s.memory.keep(c, &a, seen, s.started)
	return a
}

// gatherRoute is the background half of transport. A panic leaves facts that trust nothing.
func (s *Service) gatherRoute(ctx context.Context, t task) (found policy.Facts) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked("background", fmt.Sprint(p))
			found = policy.Facts{}
		}
	}()
	engine := policy.Engine{
		Resolver: s.sources.Resolver, Overrides: t.set.Overrides, STS: s.sources.PassiveSTS, Probes: s.sources.Probes,
		Site: t.set.Site, Effort: dns.Effort{Untrusted: true}, Waits: true,
	}
	facts, err := engine.GatherRoute(ctx, t.next, t.set.Policy)
	if err != nil {
		return policy.Facts{}
	}
	return facts
}
