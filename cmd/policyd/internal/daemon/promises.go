package daemon

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/stub"
)

// remembering is the memory of promises, and what shares and doubts it.
type remembering struct {
	promises *promises.Store
	// fleet is nil where fleet.url is empty, opinion where dns.second_opinion is.
	fleet   *fleet.Fleet
	opinion *promises.Opinion
	second  *stub.Stub
}

// newMemory makes the memory of promises. It comes before the store of MTA-STS policies, which reports its fetches to
// the fleet.
func (d *Daemon) newMemory(l *settings.Loaded) (err error) {
	d.memory.promises = promises.New(promises.Options{
		StateDir: l.Cache.StateDir, Log: d.log, Seen: func(domain string) { d.share(fleet.Promise, domain) },
	})
	if o, ok := l.SecondOpinion(d.log); ok {
		if d.memory.second, err = stub.New(o); err != nil {
			return err
		}
		d.memory.opinion = &promises.Opinion{Store: d.memory.promises, First: d.cache, Second: d.memory.second}
	}
	return nil
}

// newFleet connects the memory and the store of policies with the fleet.
func (d *Daemon) newFleet(l *settings.Loaded) (err error) {
	o, ok := l.SharedFleet(d.log)
	if !ok {
		return nil
	}
	fleet.DiscardClientLog()
	o.Locals = map[fleet.Kind]fleet.Local{fleet.Promise: d.memory.promises, fleet.Policy: d.store}
	d.memory.fleet, err = fleet.New(o)
	return err
}

// share passes on to the fleet what this node has learned.
func (d *Daemon) share(kind fleet.Kind, domain string) {
	if f := d.memory.fleet; f != nil {
		f.Changed(kind, domain)
	}
}

// parts are what runs beside the server.
func (m *remembering) parts() []func(context.Context) error {
	parts := []func(context.Context) error{m.promises.Run}
	if m.fleet != nil {
		parts = append(parts, m.fleet.Run)
	}
	if m.opinion != nil {
		parts = append(parts, m.opinion.Run)
	}
	return parts
}

func (d *Daemon) promise(domain string) (admin.Promise, bool) {
	e, ok := d.memory.promises.Get(domain)
	return shownPromise(e), ok
}

func (d *Daemon) warm(ctx context.Context, domain string) admin.Warmed {
	status, source := d.service.Warm(ctx, domain)
	return admin.Warmed{Domain: domain, Status: status, Source: source}
}

func (d *Daemon) listPromises(f admin.Filter) admin.PromiseList {
	entries := d.memory.promises.List
	if f.Vanished {
		entries = d.memory.promises.Vanished
	}
	list := admin.PromiseList{Promises: []admin.Promise{}}
	for _, e := range entries() {
		if f.Vanished && e.Missing.IsZero() || !matches(f.Match, e.Domain) {
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

func shownPromise(e promises.Entry) admin.Promise {
	p := admin.Promise{Domain: e.Domain, Seen: []admin.SeenPromise{}, MissingSince: e.Missing, HeldUntil: e.Until,
		MayHold: e.Holdable}
	for _, k := range promises.Kinds() {
		s, ok := e.Seen[k]
		if !ok {
			continue
		}
		p.Seen = append(p.Seen, admin.SeenPromise{
			Kind: string(k), First: s.First.Time().Format(time.DateOnly), Last: s.Last.Time().Format(time.DateOnly),
			Days: int(s.Days), Signed: s.Signed, Established: slices.Contains(e.Kinds, k),
		})
	}
	return p
}

// promiseStatus returns how the memory is doing; nil if promises.vanished is off.
func (d *Daemon) promiseStatus() *admin.PromiseStatus {
	if d.loaded.Load().PolicyOptions().Vanished == promises.Off {
		return nil
	}
	const most = 5
	s := &admin.PromiseStatus{Stats: d.memory.promises.Stats(), Domains: []string{}}
	if s.Missing > 0 {
		for _, p := range d.listPromises(admin.Filter{Vanished: true, Limit: most}).Promises {
			s.Domains = append(s.Domains, p.Domain)
		}
	}
	return s
}

// fleetStatus returns how the exchange with the other nodes goes; nil if nothing is shared.
func (d *Daemon) fleetStatus() *fleet.Stats {
	if d.memory.fleet == nil {
		return nil
	}
	st := d.memory.fleet.Stats()
	return &st
}
