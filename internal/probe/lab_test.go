package probe

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/testkit"
)

// network is a fake network and a fake DNS for a Prober, without sockets.
type network struct {
	mu      sync.Mutex
	addrs   map[string][]netip.Addr // the addresses of hosts; other hosts do not exist
	broken  bool                    // no lookup succeeds
	answers map[netip.Addr]func(*smtptls.Transcript)
	talks   map[string][]time.Time // when each host was connected to
	takes   time.Duration
	log     testkit.Log
}

func newNetwork() *network {
	return &network{addrs: map[string][]netip.Addr{}, answers: map[netip.Addr]func(*smtptls.Transcript){}, talks: map[string][]time.Time{}}
}

func (w *network) Start(_ context.Context, q dns.Question, _ dns.Effort) *dns.Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	call := &dns.Call{Question: q, Done: make(chan struct{}), RRset: &dns.RRset{Status: dns.Insecure}}
	close(call.Done)
	if w.broken {
		call.Err = &dns.Error{Question: q, Reason: "SERVFAIL"}
	}
	for _, a := range w.addrs[q.Name] {
		if a.Is4() == (q.Type == dns.TypeA) {
			call.RRset.Records = append(call.RRset.Addrs(), a)
		}
	}
	return call
}

// host gives a host addresses that behave like this.
func (w *network) host(name string, like func(*smtptls.Transcript), addrs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs[name] = nil
	for _, s := range addrs {
		a := netip.MustParseAddr(s)
		w.addrs[name] = append(w.addrs[name], a)
		w.answers[a] = like
	}
}

func (w *network) talk(ctx context.Context, d smtptls.Dialogue) smtptls.Transcript {
	w.mu.Lock()
	w.talks[d.Host] = append(w.talks[d.Host], time.Now())
	like, takes := w.answers[d.Addr.Addr()], w.takes
	w.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
	}
	t := smtptls.Transcript{Addr: d.Addr, Connected: true, Session: &smtptls.Session{}}
	like(&t)
	return t
}

func (w *network) count(host string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.talks[host])
}

// hosts is how many hosts have been connected to.
func (w *network) hosts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.talks)
}

// waits are the times between the connections to a host.
func (w *network) waits(host string) (waits []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, at := range w.talks[host][1:] {
		waits = append(waits, at.Sub(w.talks[host][i]).Round(time.Minute))
	}
	return waits
}

// Ways to behave.
func good(t *smtptls.Transcript) { t.Session.NotAfter = time.Now().Add(90 * 24 * time.Hour) }
func goodUntil(end time.Time) func(*smtptls.Transcript) {
	return func(t *smtptls.Transcript) { t.Session.NotAfter = end }
}
func silent(t *smtptls.Transcript) {
	t.Connected = false
	t.Failed, t.Cause, t.Why = smtptls.StepConnect, smtptls.Timeout, "connect: timeout"
}
func refusing(t *smtptls.Transcript) {
	t.Connected = false
	t.Failed, t.Cause, t.Why = smtptls.StepConnect, smtptls.Refused, "connect: connection refused"
}
func unreachable(t *smtptls.Transcript) {
	t.Connected = false
	t.Failed, t.Why = smtptls.StepConnect, "connect: network is unreachable"
}
func plain(t *smtptls.Transcript) {
	t.Failed, t.Cause, t.Why = smtptls.StepTLS, smtptls.Plaintext, "TLS handshake: the host speaks in the clear: 220"
}

func (w *network) options() Options {
	return Options{Port: 26, Resolver: w, Logger: w.log.Logger()}
}

func (w *network) prober(t *testing.T, o Options) *Prober {
	t.Helper()
	p := New(o)
	p.dialogue = w.talk
	return p
}

// run runs a test in a synctest bubble with a running prober.
func run(t *testing.T, test func(t *testing.T, w *network, p *Prober)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork()
		p := w.prober(t, w.options())
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { _ = p.Run(ctx) })
		test(t, w, p)
		cancel()
		ended.Wait()
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const mx = "smtps-a.example.com"

func mxn(i int) string { return fmt.Sprintf("smtps-%d.example.com", i) }

// known is the number of hosts that the prober knows.
func known(p *Prober) int {
	hosts := p.Stats().Hosts
	return int(hosts["open"] + hosts["closed"] + hosts["unknown"])
}

// ask requests a probe of a host, as a TLS-policy lookup does, and returns the verdict.
func ask(p *Prober, name string) Verdict {
	p.Want(name)
	return p.Verdict(name)
}
