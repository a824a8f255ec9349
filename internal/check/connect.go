package check

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
)

// connectBudget limits the time for all connections of one domain, in multiples of Timeout: a hostile domain must not
// block a scan.
const connectBudget = 10

// test is the test of a port at one address: a dialogue, or the reason why there is none.
type test struct {
	smtptls.Dialogue
	host       *host
	port       *port
	skipped    string // why there is no connection, "" if there is one
	transcript smtptls.Transcript
}

// connect tests every port at every address of every host, and adds the results to the report.
func (d *domain) connect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, connectBudget*d.o.Timeout)
	defer cancel()
	var tests []*test
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for _, h := range d.hosts {
		for _, a := range h.addrs[:min(len(h.addrs), probe.MaxAddresses)] {
			for _, p := range h.ports {
				if !p.tested {
					continue
				}
				t := d.test(h, a, p)
				if tests = append(tests, t); t.skipped == "" {
					group.Go(func() error {
						t.transcript = d.endpoints.talk(ctx, t.Dialogue)
						return nil
					})
				}
			}
		}
	}
	_ = group.Wait() // no error: what failed is in the transcripts
	for _, t := range tests {
		t.host.Connections = append(t.host.Connections, d.show(t))
		if t.skipped == "" {
			t.port.heard = append(t.port.heard, t.transcript)
			d.Commands = append(d.Commands, d.command(t))
		}
	}
}

// test returns a test that has not been made yet.
func (d *domain) test(h *host, a netip.Addr, p *port) *test {
	t := &test{host: h, port: p, Dialogue: d.o.Dialogue}
	t.Host, t.Addr, t.Implicit = h.Host.Host, netip.AddrPortFrom(a, p.number), p.implicit
	switch {
	case d.o.IPv4 && !a.Is4(), d.o.IPv6 && a.Is4():
		t.skipped = "another address family was asked for"
	case d.o.Careful && !d.o.Special && address.Special(a):
		t.skipped = "a special-purpose address"
	}
	return t
}

const maxPlaces, maxKnown = 256, 16 // bound the remembered dialogues: so many of so many places

// endpoints hold dialogues: one connection to an address at a time, and one dialogue for all domains that share a host.
type endpoints struct {
	seed    maphash.Seed
	places  [maxPlaces]place // by the hash of the address
	reached sync.Map         // the ways on which a connection was taken
}

// place has the dialogues with the addresses of one hash.
type place struct {
	turn  *semaphore.Weighted // held by the one that is connected or uses known
	known map[smtptls.Dialogue]smtptls.Transcript
}

// way is a port and an address family, which a firewall or a missing route may block as a whole. An answer over IPv4
// shows nothing about IPv6.
type way struct {
	port uint16
	ipv4 bool
}

func wayTo(a netip.AddrPort) way { return way{a.Port(), a.Addr().Unmap().Is4()} }

func newEndpoints() *endpoints {
	e := &endpoints{seed: maphash.MakeSeed()}
	for i := range e.places {
		e.places[i] = place{semaphore.NewWeighted(1), map[smtptls.Dialogue]smtptls.Transcript{}}
	}
	return e
}

// proven reports whether any address accepted a connection on this way, so that it is not filtered on our side.
func (e *endpoints) proven(w way) bool {
	_, reached := e.reached.Load(w)
	return reached
}

// talk returns the transcript of a dialogue, which is held once. It waits until no other dialogue is connected to the
// address. If ctx ends before that, the dialogue fails on our side without a connection. A dialogue that failed on our
// side is not remembered: that of another caller may succeed.
func (e *endpoints) talk(ctx context.Context, what smtptls.Dialogue) smtptls.Transcript {
	p := &e.places[maphash.Comparable(e.seed, what.Addr.Addr())%maxPlaces]
	if p.turn.Acquire(ctx, 1) != nil {
		return smtptls.RunDialogue(ctx, what)
	}
	defer p.turn.Release(1)
	if t, known := p.known[what]; known {
		return t
	}
	t := smtptls.RunDialogue(ctx, what)
	if t.Connected {
		e.reached.Store(wayTo(what.Addr), true)
	}
	if !t.LocalFailure() {
		if len(p.known) >= maxKnown {
			clear(p.known)
		}
		p.known[what] = t
	}
	return t
}
