package policy

import (
	"context"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// Relays reports which hosts Postfix's own configuration delivers to as [host].
type Relays interface {
	// RelayHost may wait for Postfix's commands. After an error the host counts as unknown, not as a relay host.
	RelayHost(ctx context.Context, host string) (bool, error)
}

// gatherRelay finds out whether a host that cannot be looked up is one of Postfix's own relay hosts. The error
// is dns.ErrNotCached only.
func (e *Engine) gatherRelay(ctx context.Context, f *Facts, o Options) error {
	if e.Relays == nil || !relayDoubt(*f, o, &Decision{}) {
		return nil
	}
	if !e.Waits {
		return dns.ErrNotCached
	}
	relay, err := e.Relays.RelayHost(ctx, f.Nexthop.Name)
	f.OwnRelay = relay && err == nil
	return nil
}

// relayDoubt reports whether f is about a host without a prefix that cannot be looked up. It fills in the
// decision to defer.
func relayDoubt(f Facts, o Options, d *Decision) bool {
	n := f.Nexthop
	return o.Mode != ModeOff && !f.decided() && n.Host && prefix.Of(n.Name) == prefix.None &&
		byDANE(f, o, d) && d.Reply.Status == socketmap.StatusTemp
}

// byOwnRelay lets mail through to a host that Postfix's own configuration names, that carries no prefix and that cannot be
// looked up: it may be known to /etc/hosts only, and deferring would stop all mail of this site.
func byOwnRelay(f Facts, o Options, d *Decision) bool {
	var deferred Decision
	if !f.OwnRelay || !relayDoubt(f, o, &deferred) {
		return false
	}
	d.none(ReasonOwnRelay)
	d.because(deferred.Reply.Text)
	d.because("[" + f.Nexthop.Name + "] is a relay host in Postfix's own configuration and carries no prefix, so there is no policy")
	return true
}
