// Package lookup answers socketmap requests (socketmap_table(5)): it reads the
// key, has the facts gathered and the decision made, and replies. It is where a
// time budget, a panic or a full queue ends in a safe answer: TEMP for a TLS
// policy, NOTFOUND for a route.
package lookup

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/resolver"
	"github.com/policyd/policyd/socketmap"
)

// Settings are what a reload can change.
type Settings struct {
	Policy    policy.Options
	Overrides *policy.Overrides
	// Site knows what this site receives itself and may wait to find out; CachedSite is the
	// same without waiting.
	Site, CachedSite policy.OwnSite
	// Wait is the longest that a transport lookup takes; zero means 200 ms.
	Wait time.Duration
	// Budget is the longest that a TLS policy lookup takes; zero means 10 s.
	Budget time.Duration
	Log    LogMode
}

// Sources are where a Service gets its facts.
type Sources struct {
	// Asking looks up what the cache does not have.
	Asking resolver.Resolver
	// Cached never waits: what it does not have is resolver.ErrNotCached.
	Cached resolver.Resolver
	// STS and CachedSTS are the same two views of MTA-STS policies; nil: there is no MTA-STS.
	STS, CachedSTS policy.STS
	// Probes knows what probes of port 26 have found; nil: nothing is known.
	Probes policy.Probes
	// Observe is told of every answer, if it is not nil. It must not block.
	Observe func(Observation)
}

// Observation is an answer, for metrics: every field has a small fixed set of values.
type Observation struct {
	// Map is tls-policy, tls-policy-tlsrpt or transport; an alias counts as what it stands for.
	Map string
	// Status is the status word of the reply.
	Status string
	// Cached is set when nothing had to be asked or waited for.
	Cached bool
	Took   time.Duration
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
	counters   counters
	log        *slog.Logger
}

// New returns a Service that answers from res under s. Run it for the sake of lookups of routes that
// are not in the cache.
func New(res Sources, s Settings, log *slog.Logger) *Service {
	svc := &Service{sources: res, log: log, changes: newChanges()}
	svc.background = newBackground(svc.gatherRoute)
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

// Run works off background lookups until ctx ends.
func (s *Service) Run(ctx context.Context) error { return s.background.run(ctx) }

// Handler returns the maps of the service under all their names. QUERY and QUERYwithTLSRPT are what
// postfix-tlspol calls the first two.
func (s *Service) Handler() socketmap.Handler {
	mux := &socketmap.Mux{}
	tls := socketmap.HandlerFunc(s.tlsPolicy)
	for _, name := range []string{"tls-policy", "tls-policy-tlsrpt", "QUERY", "QUERYwithTLSRPT"} {
		mux.Handle(name, tls)
	}
	mux.Handle("transport", socketmap.HandlerFunc(s.transport))
	return mux
}

func (s *Service) engine(set *Settings, res resolver.Resolver) policy.Engine {
	return policy.Engine{Resolver: res, Overrides: set.Overrides}
}

// tlsPolicy answers smtp_tls_policy_maps: from the cache where it can, otherwise within the budget.
// No panic in here may look like an answer.
func (s *Service) tlsPolicy(ctx context.Context, req socketmap.Request) (reply socketmap.Reply) {
	set := s.settings.Load()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(req.Map, fmt.Sprint(p))
			reply = socketmap.Temp("internal error")
			if set.Policy.Mode != policy.ModeEnforce {
				reply = socketmap.NotFound()
			}
		}
		s.counters.count(mapTLSPolicy, reply.Status)
	}()
	next, ok := policy.ParseNexthop(req.Key, set.Policy.Port26.Port)
	if !ok || set.Policy.Mode == policy.ModeOff {
		return socketmap.NotFound()
	}
	engine := s.engine(set, s.sources.Cached)
	facts, err := engine.Gather(ctx, next, set.Policy)
	if err != nil {
		budget, cancel := context.WithTimeout(ctx, set.Budget)
		defer cancel()
		engine.Resolver = s.sources.Asking
		// What cannot be had even now leaves facts that trust nothing.
		facts, _ = engine.Gather(budget, next, set.Policy)
	}
	d := policy.Decide(facts, set.Policy)
	if d.Unsigned {
		s.counters.unsigned.Add(1)
	}
	s.note(mapTLSPolicy, next, &d, set)
	return d.Reply
}

// transport answers transport_maps, never later than Wait: while qmgr(8) waits, no mail moves.
func (s *Service) transport(ctx context.Context, req socketmap.Request) (reply socketmap.Reply) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(req.Map, fmt.Sprint(p))
			reply = socketmap.NotFound()
		}
		s.counters.count(mapTransport, reply.Status)
	}()
	set := s.settings.Load()
	next, ok := policy.ParseRecipient(req.Key)
	if !ok || set.Policy.Mode == policy.ModeOff || set.Policy.Port26.Mode == policy.PortOff {
		return socketmap.NotFound()
	}
	engine := s.engine(set, s.sources.Cached)
	engine.Site, engine.Passive = set.CachedSite, true
	facts, err := engine.GatherRoute(ctx, next, set.Policy)
	if err != nil {
		if facts, ok = s.background.wait(ctx, task{next, set}); !ok {
			return socketmap.NotFound()
		}
	}
	d := policy.Route(facts, set.Policy)
	s.note(mapTransport, next, &d, set)
	return d.Reply
}

// gatherRoute is the background half of transport. A panic leaves facts that trust nothing.
func (s *Service) gatherRoute(ctx context.Context, t task) (found policy.Facts) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked("background", fmt.Sprint(p))
			found = policy.Facts{}
		}
	}()
	engine := s.engine(t.set, s.sources.Asking)
	engine.Site, engine.Passive = t.set.Site, true
	facts, err := engine.GatherRoute(ctx, t.next, t.set.Policy)
	if err != nil {
		return policy.Facts{}
	}
	return facts
}
