// Package gather finds the facts that a decision of package policy needs. It asks the decider which facts it needs,
// fetches them from the sources concurrently, and asks again, until nothing is missing.
//
// It divides the time for a decision, so that one query without an answer never takes the time of the others, and
// bounds what domains with many hosts can cost.
package gather

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/prefix"
)

// STS finds MTA-STS policies.
type STS interface {
	// Lookup returns the policy of a domain. Where it would have to wait, and must not, it returns mtasts.Unknown with
	// an error that wraps dns.ErrNotCached.
	Lookup(ctx context.Context, domain string, e dns.Effort) mtasts.Result
}

// Site knows what Postfix on this machine receives, and what it relays to.
type Site interface {
	// Own reports whether mail for domain is received here, and which list names it. After an error nothing is known:
	// no route. With Effort.CacheOnly the error can be dns.ErrNotCached.
	Own(ctx context.Context, domain string, e dns.Effort) (own bool, why string, err error)
	// OwnHost reports whether name is a name of this host.
	OwnHost(name string) bool
	// OwnAddr reports whether a is an address of this host.
	OwnAddr(a netip.Addr) bool
	// RelayHost reports whether Postfix's own configuration delivers to [host]. It may wait for Postfix's commands,
	// except with Effort.CacheOnly, when it can return dns.ErrNotCached. After another error the host counts as
	// unknown, not as a relay host.
	RelayHost(ctx context.Context, host string, e dns.Effort) (bool, error)
}

// Elsewhere is the Site of a sender that receives nothing.
type Elsewhere struct{}

// Own implements Site.
func (Elsewhere) Own(context.Context, string, dns.Effort) (own bool, why string, err error) {
	return false, "", nil
}

// OwnHost implements Site.
func (Elsewhere) OwnHost(string) bool { return false }

// OwnAddr implements Site.
func (Elsewhere) OwnAddr(netip.Addr) bool { return false }

// RelayHost implements Site.
func (Elsewhere) RelayHost(context.Context, string, dns.Effort) (bool, error) { return false, nil }

// Engine finds decisions. It keeps no facts: the sources do. Resolver, STS and Site are required.
type Engine struct {
	Resolver dns.Starter
	STS      STS
	Site     Site
	// Verdict returns what probes of port 26 have found. It never blocks. nil: nothing is known.
	Verdict func(host string) probe.Verdict
	// Validates reports whether Resolver passes its self-test now. It may wait for the test, except with
	// Effort.CacheOnly, when the error can be dns.ErrNotCached. nil: it does.
	Validates func(ctx context.Context, e dns.Effort) (bool, error)
	// History returns what a next hop promised before. It never blocks. nil: nothing is known.
	History func(domain string) promises.History
	// Hosts bounds the lookups about hosts; nil: no bound.
	Hosts *Hosts
}

// Decider is policy.Decide, policy.Route or policy.Survey.
type Decider func(policy.Facts, policy.Options) policy.Decision

// gathering is a decision in progress.
type gathering struct {
	*Engine
	options policy.Options
	effort  dns.Effort
	ctx     context.Context
	facts   *policy.Facts
	timeout time.Duration // time for one question: questionTimeout, or more if the resolver is slow
	until   time.Time     // deadline of the questions that are asked together; unused with CacheOnly

	record   *dns.Call // the lookup of the record that announces an MTA-STS policy; nil: not asked for
	recordBy time.Time // the deadline of record
	uncached bool      // with Effort.CacheOnly: a fact is not in the cache
}

// Decide calls the decider until it needs no more facts than f has. Between calls it adds the facts that are needed to
// f. The only error is dns.ErrNotCached, with Effort.CacheOnly: decide again without it, from the same f. Any other
// failure is a fact.
func (e *Engine) Decide(ctx context.Context, decide Decider, f *policy.Facts, o policy.Options,
	effort dns.Effort) (policy.Decision, error) {
	const maxSteps = 8 // more rounds than any decision takes
	if e.History != nil && f.Nexthop.MayHaveHistory() {
		f.History = e.History(f.Nexthop.Name)
	}
	g := &gathering{Engine: e, ctx: ctx, options: o, effort: effort, facts: f, timeout: questionTimeout}
	for range maxSteps {
		d := decide(*f, o)
		if d.Need.Required.Empty() {
			return d, nil
		}
		g.fetch(d.Need)
		if g.uncached {
			return d, dns.ErrNotCached
		}
		f.Known.Add(d.Need.Required)
	}
	return policy.Decision{Failure: "internal error: no decision"}, nil
}

// fetch finds the required facts concurrently, and starts lookups of the facts that will probably be needed next.
func (g *gathering) fetch(n policy.Need) {
	f, need := g.facts, n.Required
	if !g.effort.CacheOnly && !g.effort.Untrusted {
		for _, q := range n.Expected {
			if q.Type == dns.TypeTXT {
				g.askRecord()
			} else {
				g.Start(g.ctx, q, g.effort) // so that the answer is there when it is needed
			}
		}
	}
	g.until = time.Now().Add(g.timeout)
	var fetches []func()
	want := func(needed bool, fetch func()) {
		if needed {
			fetches = append(fetches, fetch)
		}
	}
	want(need.MX, g.mx)
	want(need.STS, func() { g.sts(n.Brief) })
	want(need.Relay, g.relay)
	want(need.Validates, g.validates)
	want(need.Receiver, g.receiver)
	for i := range f.Hosts {
		h := &f.Hosts[i]
		if need.Probes && h.Class.ImplicitTLS() && g.Verdict != nil {
			h.Probe = g.Verdict(h.Name)
		}
		want(need.DANE.Has(i), func() { g.dane(i, f.Nexthop.Port, &h.DANE) })
		want(need.DANE26.Has(i), func() { g.dane(i, g.options.Port26, &h.DANE26) })
		want(need.Addresses.Has(i) && prefix.ValidHost(h.Name), func() {
			addrs, _ := g.addresses(time.Now().Add(countTimeout), i)
			h.Addresses = len(addrs)
		})
	}
	g.all(fetches)
}

// all runs the fetches: concurrently if they may wait. With Effort.CacheOnly it stops at a fact that is not cached.
func (g *gathering) all(fetches []func()) {
	if g.effort.CacheOnly || len(fetches) < 2 {
		for _, fetch := range fetches {
			fetch()
			if g.uncached {
				return
			}
		}
		return
	}
	panics := make(chan string, len(fetches))
	run := func(fetch func()) {
		defer func() {
			// Records of a remote party led here. The caller recovers from panics, but only in its own goroutine.
			if p := recover(); p != nil {
				panics <- fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		fetch()
	}
	var group sync.WaitGroup
	for _, fetch := range fetches[1:] {
		group.Go(func() { run(fetch) })
	}
	run(fetches[0])
	group.Wait()
	if len(panics) > 0 {
		panic(<-panics)
	}
}
