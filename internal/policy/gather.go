package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/prefix"
)

// Engine gathers facts. It keeps nothing: what is remembered is in the resolver
// and in the site.
type Engine struct {
	Resolver  dns.Resolver
	Overrides *Overrides
	// STS finds MTA-STS policies; nil knows nothing, which defers where the options ask for MTA-STS.
	STS STS
	// Probes is asked for a route only; nil knows nothing.
	Probes Probes
	// Site is asked for a route only; nil knows nothing, so there is no route.
	Site OwnSite
	// Relays is asked about a host that cannot be looked up; nil knows no relay hosts.
	Relays Relays
	// Effort is passed on to the resolver.
	Effort dns.Effort
	// Waits says that lookups take time, so that independent ones are done side by side.
	Waits bool
	// Thorough gathers also what the decision does not need, for people to see.
	Thorough bool
}

// Gather finds the facts that Decide needs about a next hop, and none that it does not need: MX, then DANE, then
// MTA-STS where DANE does not decide. The one error is dns.ErrNotCached, from a source that may not ask: gather
// again with one that may. Any other failure is a fact.
func (e *Engine) Gather(ctx context.Context, n Nexthop, o Options) (Facts, error) {
	f, err := e.gatherMX(ctx, n, o)
	if err != nil || f.decided() && !e.Thorough {
		return f, err
	}
	if o.DANE && len(f.Hosts) > 0 {
		if e.likelySTS(f, o) {
			e.STS.Announce(n.Name)
		}
		share := ctx
		if o.MTASTS {
			// At most half of the time, so that slow name servers of a backup host leave some for the rest.
			var cancel context.CancelFunc
			share, cancel = e.share(ctx, 1, 2)
			defer cancel()
		}
		if err := e.each(len(f.Hosts), func(i int) (err error) {
			f.Hosts[i].DANE, err = e.dane(share, f.Hosts[i].Name, n.Port)
			return err
		}); err != nil {
			return f, err
		}
	}
	if err := e.gatherRelay(ctx, &f, o); err != nil {
		return f, err
	}
	if needs, err := e.needsSTS(f, o); err != nil || !needs {
		return f, err
	}
	return f, e.gatherSTS(ctx, &f)
}

// gatherMX finds the hosts of a next hop.
func (e *Engine) gatherMX(ctx context.Context, n Nexthop, o Options) (Facts, error) {
	f := Facts{Nexthop: n, Override: e.Overrides.For(n.Name)}
	switch {
	case n.Name == "" || o.Mode == ModeOff || f.decided() && !e.Thorough:
		return f, nil
	case n.Host:
		f.Hosts = []Host{{Name: n.Name, Class: prefix.Of(n.Name)}}
		return f, nil
	}
	rrset, err := e.Resolver.Lookup(ctx, dns.Question{Name: n.Name, Type: dns.TypeMX}, e.Effort)
	if errors.Is(err, dns.ErrNotCached) {
		return f, err
	}
	f.setMX(rrset, err)
	return f, nil
}

// decided says that the operator has ruled what the TLS policy is.
func (f *Facts) decided() bool {
	return f.Override.Action == ActionIgnore || f.Override.Action == ActionLiteral
}

// setMX fills in the MX RRset. Its hosts arrive sorted by preference and name.
func (f *Facts) setMX(rrset *dns.RRset, err error) {
	if err != nil {
		f.MX.Err = err
		return
	}
	// Only a secure NXDOMAIN proves that the domain does not exist. Postfix does not believe an insecure one either:
	// it delivers to the address of the domain itself.
	f.MX.Asked, f.MX.Status, f.MX.NXDomain = true, rrset.Status, rrset.NXDomain && rrset.Status == dns.Secure
	switch {
	case f.MX.NXDomain:
		return
	case len(rrset.MX) == 0:
		f.MX.Implicit = true
		f.Hosts = []Host{{Name: f.Nexthop.Name}}
		return
	case len(rrset.MX) == 1 && rrset.MX[0].Host == "":
		f.MX.Null = true
		return
	}
	f.Hosts = make([]Host, 0, min(len(rrset.MX), MaxHosts))
	for _, mx := range rrset.MX {
		switch {
		case f.has(mx.Host):
		case len(f.Hosts) < MaxHosts:
			f.Hosts = append(f.Hosts, Host{Name: mx.Host, Preference: mx.Preference, Class: classOf(mx.Host)})
		default:
			if f.MX.Rest == 0 {
				f.MX.RestPreference = mx.Preference
			}
			f.MX.Rest++
		}
	}
}

// classOf is the promise of a name that may reach a reply as it is.
func classOf(host string) prefix.Class {
	if !prefix.ValidHost(host) {
		return prefix.None
	}
	return prefix.Of(host)
}

func (f *Facts) has(host string) bool {
	for i := range f.Hosts {
		if f.Hosts[i].Name == host {
			return true
		}
	}
	return false
}

// dane finds what DANE says of a host. Nobody can connect to a name that is no host name.
func (e *Engine) dane(ctx context.Context, host string, port uint16) (dane.Result, error) {
	if !prefix.ValidHost(host) {
		return dane.Result{State: dane.Unreachable, Why: "not a host name"}, nil
	}
	return dane.Lookup(ctx, e.Resolver, dane.Query{Host: host, Port: port, Effort: e.Effort, Waits: e.Waits})
}

// needsSTS says whether the decision depends on MTA-STS. The error is dns.ErrNotCached only.
func (e *Engine) needsSTS(f Facts, o Options) (bool, error) {
	if !o.MTASTS || f.Nexthop.Host {
		return false, nil
	}
	if len(f.Hosts) > 0 {
		if e.Thorough {
			return true, nil
		}
		if match, _ := prefixed(f); f.Nexthop.Port != SMTPPort && len(match) == 0 {
			return false, nil
		}
		// Whatever the state of MTA-STS is, the answer is the same where DANE decides without it.
		var unknown, absent Decision
		byUnknown := byDANE(f, o, &unknown)
		f.STS.State = mtasts.Absent
		byAbsent := byDANE(f, o, &absent)
		return !byUnknown || !byAbsent || unknown.Reply != absent.Reply, nil
	}
	// Nothing depends on it, unless a live policy says that the null MX is forged.
	if e.STS == nil || !f.MX.Null || f.MX.signed() {
		return false, nil
	}
	f.STS = e.STS.Live(f.Nexthop.Name)
	if errors.Is(f.STS.Err, dns.ErrNotCached) {
		return false, dns.ErrNotCached
	}
	return forgedNull(f, o), nil
}

// likelySTS says that the decision will most likely depend on MTA-STS: DANE seldom decides where the MX RRset is not signed, or
// where a host has a prefix instead. The record is then asked for together with the addresses of the hosts, which saves its round
// trip. A signed domain without a prefix is asked for TLSA records first, because those of DANE need nothing more.
func (e *Engine) likelySTS(f Facts, o Options) bool {
	if !e.Waits || !o.MTASTS || e.STS == nil || !f.MX.Asked {
		return false
	}
	match, _ := prefixed(f)
	return len(match) > 0 || f.Nexthop.Port == SMTPPort && !f.MX.signed()
}

// gatherSTS finds the domain's MTA-STS policy. The error is dns.ErrNotCached only.
func (e *Engine) gatherSTS(ctx context.Context, f *Facts) error {
	if e.STS == nil {
		f.STS = mtasts.Result{Domain: f.Nexthop.Name, Why: "nobody to ask"}
		return nil
	}
	share, cancel := e.share(ctx, 3, 4)
	defer cancel()
	begun := time.Now()
	f.STS = e.STS.Lookup(share, f.Nexthop.Name)
	switch {
	case f.STS.State != mtasts.Unknown:
	case errors.Is(f.STS.Err, dns.ErrNotCached):
		return dns.ErrNotCached
	case time.Since(begun) < fair:
		// It is our resolver that is slow: what came before has taken the time. The lookup goes on, and next time its
		// result is there.
	case share.Err() != nil && ctx.Err() == nil:
		// A policy that cannot be had in reasonable time, and none is cached: RFC 8461 section 3.3.
		f.STS.State, f.STS.Why = mtasts.Failed, "no answer in time"
	}
	return nil
}

// fair is how long MTA-STS has, of a budget of ten seconds, where slow name servers of a backup host have used up their half. A
// domain that has no policy by then is as one without. With less time nothing is known of it.
const fair = 3700 * time.Millisecond

// share returns a context with a part of the time that ctx has left.
func (e *Engine) share(ctx context.Context, part, of time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !e.Waits || !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)*part/of)
}

// each calls do for 0 to n-1, side by side where that saves time.
func (e *Engine) each(n int, do func(i int) error) error {
	if !e.Waits || n == 1 {
		for i := range n {
			if err := do(i); err != nil {
				return err
			}
		}
		return nil
	}
	const sideBySide = 8
	var group errgroup.Group
	group.SetLimit(sideBySide)
	panics := make([]error, n)
	for i := range n {
		group.Go(func() error {
			defer func() {
				// A stranger's records led here: the caller recovers, and nobody would in this goroutine.
				if p := recover(); p != nil {
					panics[i] = fmt.Errorf("%v\n%s", p, debug.Stack())
				}
			}()
			return do(i)
		})
	}
	err := group.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
	return err
}
