package check

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
)

// connectBudget limits the time for all connections of one domain, in multiples of Timeout: a hostile domain must not
// block a scan.
const connectBudget = 10

// heard is one test: a dialogue, or why there was none.
type heard struct {
	addr       netip.Addr
	implicit   bool
	skipped    string // why there was no connection, "" if there was one
	transcript smtptls.Transcript
}

// spoken returns the dialogues with a host on one of its ports.
func (h *host) spoken(implicit bool) []smtptls.Transcript {
	var all []smtptls.Transcript
	for _, t := range h.heard {
		if t.implicit == implicit && t.skipped == "" {
			all = append(all, t.transcript)
		}
	}
	return all
}

// connect talks to every address of every host.
func (d *domain) connect(ctx context.Context) {
	if d.o.NoConnect {
		d.find("tested-partly", about{},
			"nothing was connected to, as was asked for: what is promised was not tested, and the answers leave "+
				"MTA-STS and the port of implicit TLS out")
		return
	}
	if d.o.Port25Only {
		d.find("tested-partly", about{}, "the port of implicit TLS was left out, as was asked for")
	}
	ctx, cancel := context.WithTimeout(ctx, connectBudget*d.o.Timeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for _, h := range d.hosts {
		for i, a := range h.addrs {
			if i == probe.MaxAddresses {
				d.find("address-too-many", about{host: h.Host.Host},
					fmt.Sprintf("the host has %d addresses: those after the first %d are not tested", len(h.addrs),
						probe.MaxAddresses))
				break
			}
			h.heard = append(h.heard, heard{addr: a})
			if h.class.ImplicitTLS() && !d.o.Port25Only {
				h.heard = append(h.heard, heard{addr: a, implicit: true})
			}
		}
		for i := range h.heard {
			t := &h.heard[i]
			if t.skipped = d.skip(t.addr); t.skipped == "" {
				group.Go(func() error {
					t.transcript = d.endpoints.talk(ctx, d.dialogue(h.Host.Host, t))
					return nil
				})
			}
		}
	}
	_ = group.Wait() // no error: what failed is in the transcripts
}

// skip says why an address is not connected to, "" if it is.
func (d *domain) skip(a netip.Addr) string {
	switch {
	case d.o.IPv4 && !d.o.IPv6 && !a.Is4(), d.o.IPv6 && !d.o.IPv4 && a.Is4():
		return "another address family was asked for"
	case d.o.Careful && !d.o.Special && address.Special(a):
		return "a special-purpose address"
	}
	return ""
}

func (d *domain) dialogue(name string, t *heard) smtptls.Dialogue {
	judge := d.o.Postfix
	if !d.o.At.IsZero() {
		judge = nil
	}
	port := d.o.SMTPPort
	if t.implicit {
		port = d.o.Policy.Port
	}
	return smtptls.Dialogue{
		Host: name, Addr: netip.AddrPortFrom(t.addr, port), Implicit: t.implicit, Roots: d.o.Roots, At: d.o.At,
		Helo: d.o.Helo, Timeout: d.o.Timeout, Postfix: judge,
	}
}

// maxEndpoints is how many transcripts are remembered: many domains share their hosts.
const maxEndpoints = 1024

// endpoints hold dialogues: one connection to an address at a time, and one dialogue for all domains that share a host.
type endpoints struct {
	mu      sync.Mutex
	known   map[endpoint]smtptls.Transcript
	busy    map[netip.Addr]*turn
	reached map[way]bool // those on which a connection was taken
}

// way is what a firewall or a missing route may close to us as a whole. A port that IPv4 addresses answer at says
// nothing about IPv6.
type way struct {
	port uint16
	ipv4 bool
}

func wayTo(a netip.Addr, port uint16) way { return way{port, a.Unmap().Is4()} }

type endpoint struct {
	host     string
	addr     netip.AddrPort
	implicit bool
}

// turn is a semaphore per address; its holder may connect. users counts the holder and those that wait.
type turn struct {
	taken chan struct{}
	users int
}

func newEndpoints() *endpoints {
	return &endpoints{known: map[endpoint]smtptls.Transcript{}, busy: map[netip.Addr]*turn{}, reached: map[way]bool{}}
}

// proven reports whether any address accepted a connection on this way, so that it is not filtered on our side.
func (e *endpoints) proven(w way) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reached[w]
}

// talk returns the transcript of a dialogue, which is held once. It waits until no other dialogue is connected to the
// address. If ctx ends before that, the dialogue fails on our side without a connection. A dialogue that failed on our
// side is not remembered: that of another caller may succeed.
func (e *endpoints) talk(ctx context.Context, what smtptls.Dialogue) smtptls.Transcript {
	key := endpoint{what.Host, what.Addr, what.Implicit}
	if t, ok := e.recall(key); ok {
		return t
	}
	defer e.take(ctx, what.Addr.Addr())()
	if t, ok := e.recall(key); ok { // another caller had the turn
		return t
	}
	t := smtptls.Talk(ctx, what)
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.Connected() {
		e.reached[wayTo(what.Addr.Addr(), what.Addr.Port())] = true
	}
	if !t.Ours {
		e.remember(key, t)
	}
	return t
}

// remember keeps a transcript, in place of any other if there are too many. The caller holds the lock.
func (e *endpoints) remember(key endpoint, t smtptls.Transcript) {
	for old := range e.known {
		if len(e.known) < maxEndpoints {
			break
		}
		delete(e.known, old)
	}
	e.known[key] = t
}

func (e *endpoints) recall(key endpoint) (smtptls.Transcript, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.known[key]
	return t, ok
}

// take waits for the turn to connect to an address, or for the end of ctx, and returns the function that gives the
// turn back.
func (e *endpoints) take(ctx context.Context, a netip.Addr) func() {
	e.mu.Lock()
	t := e.busy[a]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		e.busy[a] = t
	}
	t.users++
	e.mu.Unlock()
	mine := false
	select {
	case t.taken <- struct{}{}:
		mine = true
	case <-ctx.Done():
	}
	return func() {
		if mine {
			<-t.taken
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(e.busy, a)
		}
	}
}

// connections shows the tests of a host, port by port within an address.
func (d *domain) connections(h *host) {
	for i := range h.heard {
		t := &h.heard[i]
		c := report.Connection{Address: t.addr.String(), Port: d.dialogue("", t).Addr.Port(), Implicit: t.implicit,
			Result: report.ResultSkipped, Why: t.skipped, Steps: []report.Step{}}
		if t.skipped == "" {
			d.show(&c, &t.transcript)
		}
		h.Connections = append(h.Connections, c)
	}
}
