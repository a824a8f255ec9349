package policy

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// Engine finds the facts of decisions. It keeps no facts: the sources do.
type Engine struct {
	Resolver  dns.Resolver
	Overrides *Overrides
	// STS finds MTA-STS policies; nil knows nothing, which defers where the options require MTA-STS.
	STS STS
	// Probes has the verdicts for routes; nil knows nothing.
	Probes Probes
	// Site knows what this site receives; nil knows nothing, so there is no route.
	Site OwnSite
	// Relays knows the relay hosts of Postfix; nil knows none.
	Relays Relays
	// Promises remembers promises; nil remembers none.
	Promises Promises
	// Hosts bounds the lookups about hosts; nil: no bound.
	Hosts *HostLimit
}

// decider is Decide or Route, or one of them with a greater Need.
type decider func(Facts, Options) (Decision, Need)

// Decide finds the TLS policy of a next hop, and the facts that it rests on. The one error is dns.ErrNotCached, with
// Effort.CacheOnly: decide again without it. Any other failure is a fact.
func (e *Engine) Decide(ctx context.Context, n Nexthop, o Options, by dns.Effort) (Facts, Decision, error) {
	return e.decide(ctx, Decide, Facts{Nexthop: n}, request{o, by})
}

// Route finds the route of a domain; otherwise it is as Decide.
func (e *Engine) Route(ctx context.Context, n Nexthop, o Options, by dns.Effort) (Facts, Decision, error) {
	return e.decide(ctx, Route, Facts{Nexthop: n}, request{o, by})
}

// Survey finds the TLS policy of a next hop together with what DANE and MTA-STS say about it, whether the policy rests
// on that or not.
func (e *Engine) Survey(ctx context.Context, n Nexthop, o Options) (Facts, Decision) {
	all := func(f Facts, o Options) (Decision, Need) {
		d, need := Decide(f, o)
		if need.Required.Empty() {
			need.Required = unknown(&f, &o)
		}
		return d, need
	}
	f, d, _ := e.decide(ctx, all, Facts{Nexthop: n}, request{options: o})
	return f, d
}

// unknown returns what a Survey shows and is not known yet.
func unknown(f *Facts, o *Options) FactSet {
	var s FactSet
	switch {
	case o.Mode == ModeOff || f.Nexthop.Name == "" || f.MX.Err != nil:
	case !f.Nexthop.Host && !f.MX.Asked:
		s.MX = true
	case len(f.Hosts) > 0:
		s.STS = stsApplies(f, o) && !f.stsKnown()
		if o.DANE {
			s.DANE = f.withoutDANE()
		}
	}
	return s
}

// request is what a decision is made under.
type request struct {
	options Options
	by      dns.Effort
}

// gathering is a decision in progress.
type gathering struct {
	*Engine
	request
	ctx     context.Context
	facts   *Facts
	timeout time.Duration // for one question; 0: no limit but that of ctx

	prefetches sync.WaitGroup
	record     *record // nil: not asked for
}

// decide calls the decider until it needs no more facts, and fetches what it needs in between. f has the next hop.
func (e *Engine) decide(ctx context.Context, by decider, f Facts, r request) (Facts, Decision, error) {
	f.Override = e.Overrides.For(f.Nexthop.Name)
	if f.Nexthop.Host {
		f.Hosts = []Host{{Name: f.Nexthop.Name, Class: classOf(f.Nexthop.Name)}}
	}
	if e.Promises != nil && f.Nexthop.remembers() {
		f.Promises = e.Promises.Recall(f.Nexthop.Name)
	}
	g := &gathering{Engine: e, ctx: ctx, request: r, facts: &f}
	if !r.by.CacheOnly {
		var cancel context.CancelFunc
		g.ctx, cancel = context.WithCancel(ctx)
		g.timeout = timeout
		defer g.prefetches.Wait()
		defer cancel() // of the expected facts that no rule needed
	}
	const steps = 8
	for range steps {
		d, need := by(f, r.options)
		if need.Required.Empty() {
			return f, d, nil
		}
		if err := g.fetch(need); err != nil {
			return f, d, err
		}
	}
	return f, Decision{Failure: "internal error: no decision"}, nil
}

// fetch finds the required facts at the same time, and begins to ask what is expected. The error is dns.ErrNotCached.
func (g *gathering) fetch(n Need) error {
	f, need := g.facts, n.Required
	if !g.by.CacheOnly && !g.by.Untrusted {
		for _, q := range n.Expected {
			g.prefetch(q)
		}
	}
	var fetches []func() error
	if need.MX {
		fetches = append(fetches, g.mx)
	}
	if need.STS {
		g.announce()
		fetches = append(fetches, g.sts)
	}
	if need.Relay {
		fetches = append(fetches, g.relay)
	}
	if need.Receiver {
		fetches = append(fetches, g.receiver)
	}
	if need.Probes {
		g.probes()
	}
	need.DANE.each(func(i int) {
		fetches = append(fetches, func() error { return g.dane(i, f.Nexthop.Port, &f.Hosts[i].DANE) })
	})
	need.DANE26.each(func(i int) {
		fetches = append(fetches, func() error { return g.dane(i, g.options.Port26.Port, &f.Hosts[i].DANE26) })
	})
	need.Addresses.each(func(i int) {
		fetches = append(fetches, func() error { return g.count(i) })
	})
	return g.all(fetches)
}

// all runs the fetches, at the same time where they may wait.
func (g *gathering) all(fetches []func() error) error {
	if g.by.CacheOnly || len(fetches) == 1 {
		for _, fetch := range fetches {
			if err := fetch(); err != nil {
				return err
			}
		}
		return nil
	}
	var group sync.WaitGroup
	panics := make([]error, len(fetches))
	for i, fetch := range fetches {
		group.Go(func() {
			defer func() {
				// A remote party's records led here. The caller recovers from panics, and in this goroutine nobody would.
				if p := recover(); p != nil {
					panics[i] = fmt.Errorf("%v\n%s", p, debug.Stack())
				}
			}()
			_ = fetch() // it may ask, so its failures are facts
		})
	}
	group.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
	return nil
}
