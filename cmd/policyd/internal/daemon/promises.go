package daemon

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/promises"
)

// share passes on to the fleet what this node has learned.
func (d *Daemon) share(kind fleet.Kind, domain string) {
	if d.fleet != nil {
		d.fleet.Changed(kind, domain)
	}
}

func (d *Daemon) promise(domain string) (status.Promise, bool) {
	e, ok := d.promises.Get(domain)
	return shownPromise(e), ok
}

func (d *Daemon) warm(ctx context.Context, domain string) admin.Warmed {
	status, source := d.service.Warm(ctx, domain)
	return admin.Warmed{Domain: domain, Status: status, Source: source}
}

func (d *Daemon) listPromises(f admin.Filter) admin.PromiseList {
	entries := d.promises.List
	if f.Vanished {
		entries = d.promises.Vanished
	}
	list := admin.PromiseList{Promises: []status.Promise{}}
	for _, e := range entries() {
		if !matches(f.Match, e.Domain) {
			continue
		}
		if len(list.Promises) == f.Limit {
			list.More = true
			break
		}
		list.Promises = append(list.Promises, shownPromise(e))
	}
	return list
}

// matches reports whether a name contains a text, or matches it if it is a pattern.
func matches(match, name string) bool {
	if strings.ContainsAny(match, "*?[") {
		ok, err := path.Match(match, name)
		return ok && err == nil
	}
	return strings.Contains(name, match)
}

func shownPromise(e promises.Entry) status.Promise {
	p := status.Promise{Domain: e.Domain, Seen: []status.SeenPromise{}, MissingSince: e.Missing, HeldUntil: e.Until,
		MayHold: e.Holdable}
	for _, k := range promises.Kinds() {
		s, ok := e.Seen[k]
		if !ok {
			continue
		}
		p.Seen = append(p.Seen, status.SeenPromise{
			Kind: string(k), First: s.First.Time().Format(time.DateOnly), Last: s.Last.Time().Format(time.DateOnly),
			Days: int(s.Days), Signed: s.Signed, Established: slices.Contains(e.Kinds, k),
		})
	}
	return p
}

// promiseStatus returns how the memory is doing; nil if promises.vanished is off.
func (d *Daemon) promiseStatus() *status.PromiseStatus {
	const most = 5
	if d.loaded.Load().PolicyOptions().Vanished == promises.Off {
		return nil
	}
	return &status.PromiseStatus{Stats: d.promises.Stats(), Domains: d.vanished(most)}
}

// vanished returns the first domains whose promise is missing.
func (d *Daemon) vanished(most int) []string {
	domains := []string{}
	for _, p := range d.promises.Vanished() {
		if len(domains) < most {
			domains = append(domains, p.Domain)
		}
	}
	return domains
}

// fleetStatus returns how the exchange with the other nodes goes; nil if nothing is shared.
func (d *Daemon) fleetStatus() *fleet.Stats {
	if d.fleet == nil {
		return nil
	}
	return new(d.fleet.Stats())
}
