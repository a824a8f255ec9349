package policy

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/resolver"
)

// receiver finds out whether this site receives the mail of a domain: by its lists,
// by a name or by an address of one of the domain's MX hosts. Every doubt ends in
// ReceiverUnknown. The error is resolver.ErrNotCached only.
func (e *Engine) receiver(ctx context.Context, f Facts) (Receiver, error) {
	if e.Site == nil {
		return Receiver{Why: "it is not known what this site receives"}, nil
	}
	own, why, failed := e.Site.Own(ctx, f.Nexthop.Name)
	switch {
	case errors.Is(failed, resolver.ErrNotCached):
		return Receiver{}, failed
	case failed != nil:
		return Receiver{Why: "whether this site receives it is not known: " + failed.Error()}, nil
	case own:
		return Receiver{State: ReceiverHere, Why: why}, nil
	}
	for _, h := range f.Hosts {
		if e.Site.OwnHost(h.Name) {
			return Receiver{State: ReceiverHere, Why: "the MX host " + printable(h.Name) + " is this host"}, nil
		}
	}
	return e.receiverByAddress(ctx, f.Hosts)
}

// receiverByAddress looks up the addresses of every MX host that is considered.
func (e *Engine) receiverByAddress(ctx context.Context, hosts []Host) (Receiver, error) {
	const sideBySide = 8
	found := make([]Receiver, 2*len(hosts))
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for i, h := range hosts {
		for j, t := range []resolver.Type{resolver.TypeA, resolver.TypeAAAA} {
			group.Go(func() error {
				var err error
				found[2*i+j], err = e.addressed(ctx, h.Name, t)
				return err
			})
		}
	}
	err := group.Wait()
	all := Receiver{State: ReceiverElsewhere}
	for _, r := range found {
		switch {
		case r.State == ReceiverHere:
			return r, nil
		case r.State != ReceiverElsewhere:
			all = r
		}
	}
	return all, err
}

func (e *Engine) addressed(ctx context.Context, host string, t resolver.Type) (Receiver, error) {
	rrset, failed := e.Resolver.Lookup(ctx, resolver.Question{Name: host, Type: t, Passive: e.Passive})
	switch {
	case errors.Is(failed, resolver.ErrNotCached):
		return Receiver{}, failed
	case failed != nil:
		return Receiver{Why: "an address of " + printable(host) + " could not be looked up: " + reason(failed)}, nil
	}
	for _, a := range rrset.Addrs {
		if e.Site.OwnAddr(a) {
			return Receiver{State: ReceiverHere, Why: "the MX host " + printable(host) + " has the address " + a.String() + " of this host"}, nil
		}
	}
	return Receiver{State: ReceiverElsewhere}, nil
}
