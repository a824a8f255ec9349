package policy

import (
	"context"
	"errors"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

// GatherRoute finds the facts that Route needs about a domain; otherwise as Gather. What costs more than the MX
// RRset is looked up only where a route is possible.
func (e *Engine) GatherRoute(ctx context.Context, n Nexthop, o Options) (Facts, error) {
	if o.Port26.Mode == PortOff || n.Host {
		return Facts{Nexthop: n, Override: e.Overrides.For(n.Name)}, nil
	}
	f, err := e.gatherMX(ctx, n, o)
	if err != nil {
		return f, err
	}
	for i := range f.Hosts {
		h := &f.Hosts[i]
		h.Override = e.Overrides.For(h.Name)
		if h.Class.ImplicitTLS() && o.Port26.Mode == PortProbe && e.Probes != nil {
			h.Probe = e.Probes.Verdict(h.Name)
		}
	}
	hosts, _ := leading(f, func(h *Host) bool { return open(h, o) })
	if refused(f, o) != "" || len(hosts) == 0 {
		return f, nil
	}
	if f.Receiver, err = e.receiver(ctx, f); err != nil || f.Receiver.State != ReceiverElsewhere {
		return f, err
	}
	if o.DANE {
		if e.likelySTS(f, o) {
			e.STS.Announce(n.Name)
		}
		if err := e.each(2*len(hosts), func(i int) (err error) {
			h := &hosts[i/2]
			if i%2 == 0 {
				h.DANE, err = e.dane(ctx, h.Name, SMTPPort)
			} else {
				h.DANE26, err = e.dane(ctx, h.Name, o.Port26.Port)
			}
			return err
		}); err != nil {
			return f, err
		}
	}
	if o.MTASTS {
		return f, e.gatherSTS(ctx, &f)
	}
	return f, nil
}

// receiver finds out whether this site receives the mail of a domain: by its lists,
// by a name or by an address of one of the domain's MX hosts. Every doubt ends in
// ReceiverUnknown. The error is dns.ErrNotCached only.
func (e *Engine) receiver(ctx context.Context, f Facts) (Receiver, error) {
	if e.Site == nil {
		return Receiver{Why: "it is not known what this site receives"}, nil
	}
	own, why, failed := e.Site.Own(ctx, f.Nexthop.Name)
	switch {
	case errors.Is(failed, dns.ErrNotCached):
		return Receiver{}, failed
	case failed != nil:
		return Receiver{Why: "whether this site receives it is not known: " + reason(failed)}, nil
	case own:
		return Receiver{State: ReceiverHere, Why: why}, nil
	}
	for _, h := range f.Hosts {
		if e.Site.OwnHost(h.Name) {
			return Receiver{State: ReceiverHere, Why: "the MX host " + text.Name(h.Name) + " is this host"}, nil
		}
	}
	return e.receiverByAddress(ctx, f.Hosts)
}

// receiverByAddress looks up the addresses of every MX host that is considered.
func (e *Engine) receiverByAddress(ctx context.Context, hosts []Host) (Receiver, error) {
	found := make([]Receiver, 2*len(hosts))
	err := e.each(len(found), func(i int) (err error) {
		t := dns.TypeA
		if i%2 == 1 {
			t = dns.TypeAAAA
		}
		found[i], err = e.addressed(ctx, hosts[i/2].Name, t)
		return err
	})
	if err != nil {
		return Receiver{}, err
	}
	all := Receiver{State: ReceiverElsewhere}
	for _, r := range found {
		switch {
		case r.State == ReceiverHere:
			return r, nil
		case r.State != ReceiverElsewhere:
			all = r
		}
	}
	return all, nil
}

func (e *Engine) addressed(ctx context.Context, host string, t dns.Type) (Receiver, error) {
	rrset, failed := e.Resolver.Lookup(ctx, dns.Question{Name: host, Type: t}, e.Effort)
	switch {
	case errors.Is(failed, dns.ErrNotCached):
		return Receiver{}, failed
	case failed != nil:
		return Receiver{Why: "an address of " + text.Name(host) + " could not be looked up: " + reason(failed)}, nil
	}
	for _, a := range rrset.Addrs {
		if e.Site.OwnAddr(a) {
			return Receiver{State: ReceiverHere, Why: "the MX host " + text.Name(host) + " has the address " + a.String() + " of this host"}, nil
		}
	}
	return Receiver{State: ReceiverElsewhere}, nil
}
