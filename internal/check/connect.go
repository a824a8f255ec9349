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

// connectBudget limits all connections of one domain, in multiples of Timeout: a hostile domain must not block a scan.
const connectBudget = 10

// test is the test of a port at one address: a dialogue, or the reason why there is none.
type test struct {
	dialogue   smtptls.Dialogue
	host       *host
	port       *port
	skipped    string // why there is no connection, "" if there is one
	transcript smtptls.Transcript
}

// connect tests every port at every address of every host, and adds the results to the report.
func (d *domain) connect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, connectBudget*d.options.Template.Timeout)
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
				t := d.newTest(h, a, p)
				tests = append(tests, t)
				if t.skipped == "" {
					group.Go(func() error {
						t.transcript = d.endpoints.runDialogue(ctx, t.dialogue)
						return nil
					})
				}
			}
		}
	}
	_ = group.Wait() // no error: what failed is in the transcripts
	for _, t := range tests {
		t.host.report.Connections = append(t.host.report.Connections, d.show(t))
		if t.skipped == "" {
			t.port.transcripts = append(t.port.transcripts, t.transcript)
			d.report.Commands = append(d.report.Commands, d.command(t))
		}
	}
}

// newTest returns a test that has not run yet.
func (d *domain) newTest(h *host, a netip.Addr, p *port) *test {
	t := &test{host: h, port: p, dialogue: d.options.Template}
	t.dialogue.Host, t.dialogue.Addr, t.dialogue.Implicit = h.report.Host, netip.AddrPortFrom(a, p.number), p.implicit
	switch {
	case d.options.IPv4 && !a.Is4(), d.options.IPv6 && a.Is4():
		t.skipped = "another address family was asked for"
	case d.options.Careful && !d.options.Special && address.Special(a):
		t.skipped = "a special-purpose address"
	}
	return t
}

const (
	maxPlaces = 256
	maxKnown  = 16 // dialogues that are remembered per place
)

// endpoints hold dialogues: one connection to an address at a time, and one dialogue for all domains that share a host.
type endpoints struct {
	seed     maphash.Seed
	places   [maxPlaces]place // by the hash of the address
	accepted sync.Map         // each portFamily in which an address has accepted a connection
}

// place has the dialogues with all addresses that share a hash.
type place struct {
	turn  *semaphore.Weighted // held while connected, and while known is used
	known map[smtptls.Dialogue]smtptls.Transcript
}

// portFamily is a port and an address family, which a firewall or a missing route may block as a whole. An answer over
// IPv4 shows nothing about IPv6.
type portFamily struct {
	port uint16
	ipv4 bool
}

func portFamilyOf(a netip.AddrPort) portFamily { return portFamily{a.Port(), a.Addr().Unmap().Is4()} }

func newEndpoints() *endpoints {
	e := &endpoints{seed: maphash.MakeSeed()}
	for i := range e.places {
		e.places[i] = place{semaphore.NewWeighted(1), map[smtptls.Dialogue]smtptls.Transcript{}}
	}
	return e
}

// reachable reports whether any address accepted a connection: the port and family are not filtered on our side.
func (e *endpoints) reachable(p portFamily) bool {
	_, accepted := e.accepted.Load(p)
	return accepted
}

// runDialogue returns the transcript of a dialogue, which takes place only once. It waits until no other dialogue is
// connected to the address. If ctx ends before that, the dialogue fails on our side without a connection. A dialogue
// that failed on our side is not remembered, because another caller may succeed.
func (e *endpoints) runDialogue(ctx context.Context, what smtptls.Dialogue) smtptls.Transcript {
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
		e.accepted.Store(portFamilyOf(what.Addr), true)
	}
	if !t.LocalFailure() {
		if len(p.known) >= maxKnown {
			clear(p.known)
		}
		p.known[what] = t
	}
	return t
}
