package daemon

import (
	"context"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/fleet"
)

// joinFleet makes this node part of the fleet, if fleet.url names one.
func (d *Daemon) joinFleet(l *settings.Loaded) (err error) {
	if l.Fleet.URL == "" {
		return nil
	}
	fleet.DiscardClientLog()
	o := l.SharedFleet(d.log)
	o.Locals = map[fleet.Kind]fleet.Local{fleet.Promise: d.promises, fleet.Policy: d.store}
	d.fleet, err = fleet.New(o)
	return err
}

// runFleet exchanges policies and promises with the other nodes until ctx ends.
func (d *Daemon) runFleet(ctx context.Context) error {
	if d.fleet == nil {
		return nil
	}
	return d.fleet.Run(ctx)
}

// share passes a changed policy or promise of this node on to the fleet.
func (d *Daemon) share(kind fleet.Kind, domain string) {
	if d.fleet != nil {
		d.fleet.Changed(kind, domain)
	}
}

// unshare removes a record from the server of the fleet because the operator made this node forget it, or because the
// domain has withdrawn it.
func (d *Daemon) unshare(kind fleet.Kind, domain string) {
	if d.fleet != nil {
		d.fleet.Forgotten(kind, domain)
	}
}
