package policy

import (
	"context"
	"errors"

	"github.com/policyd/policyd/internal/resolver"
	"github.com/policyd/policyd/prefix"
)

// Engine gathers facts. It keeps nothing: what is remembered is in the resolver
// and in the site.
type Engine struct {
	Resolver  resolver.Resolver
	Overrides *Overrides
	// STS finds MTA-STS policies; nil: there are none.
	STS STS
	// Probes is asked for a route only; nil knows nothing.
	Probes Probes
	// Site is asked for a route only; nil knows nothing, so there is no route.
	Site OwnSite
	// Passive marks lookups that a stranger can cause: they never make the cache
	// refresh an entry ahead of its expiry.
	Passive bool
	// Thorough gathers also what the decision does not need, for people to see.
	Thorough bool
}

// Gather finds the facts that Decide needs about a next hop. The one error is
// resolver.ErrNotCached, from a resolver that may not ask: gather again with one that may.
// Any other failure is a fact.
func (e *Engine) Gather(ctx context.Context, n Nexthop, o Options) (Facts, error) {
	f := Facts{Nexthop: n, Override: e.Overrides.For(n.Name)}
	decided := f.Override.Action == ActionIgnore || f.Override.Action == ActionLiteral
	if n.Host || o.Mode == ModeOff || decided && !e.Thorough {
		return f, nil
	}
	rrset, err := e.Resolver.Lookup(ctx, resolver.Question{Name: n.Name, Type: resolver.TypeMX, Passive: e.Passive})
	if errors.Is(err, resolver.ErrNotCached) {
		return f, err
	}
	f.setMX(rrset, err)
	return f, nil
}

// GatherRoute finds the facts that Route needs about a domain; otherwise as Gather.
// What costs more than the MX RRset is looked up only where a route is possible.
func (e *Engine) GatherRoute(ctx context.Context, n Nexthop, o Options) (Facts, error) {
	if o.Port26.Mode == PortOff && !e.Thorough {
		return Facts{Nexthop: n, Override: e.Overrides.For(n.Name)}, nil
	}
	f, err := e.Gather(ctx, n, o)
	if err != nil {
		return f, err
	}
	for i := range f.Hosts {
		f.Hosts[i].Override = e.Overrides.For(f.Hosts[i].Name)
	}
	if possible, _ := candidate(f, o); possible == "" {
		return f, nil
	}
	f.Receiver, err = e.receiver(ctx, f)
	return f, err
}

// setMX fills in the MX RRset. Its hosts arrive sorted by preference and name.
func (f *Facts) setMX(rrset *resolver.RRset, err error) {
	if err != nil {
		f.MX.Err = err
		return
	}
	f.MX.Asked, f.MX.Status, f.MX.NXDomain = true, rrset.Status, rrset.NXDomain
	if len(rrset.MX) == 1 && rrset.MX[0].Host == "" {
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
