package lookup_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/socketmap"
)

// world is every source at once: what it says can be changed, and it answers from memory, like a cache that has
// everything.
type world struct {
	answers map[string]*dns.RRset // "MX example.com"; a name that is missing is a denial
	failing map[string]bool
	missing map[string]bool // not cached
	sts     mtasts.Result
	verdict map[string]probe.Verdict
	own     map[string]bool
	ownAddr map[netip.Addr]bool
	denial  map[string]*dns.RRset
}

func (w *world) Lookup(_ context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	key := q.Type.String() + " " + q.Name
	switch {
	case w.missing[key]:
		return nil, dns.ErrNotCached
	case w.failing[key]:
		return nil, &dns.Error{Question: q, Reason: "SERVFAIL"}
	}
	if r := w.answers[key]; r != nil {
		return r, nil
	}
	if w.denial[key] == nil {
		w.denial[key] = &dns.RRset{Name: q.Name, Owner: q.Name, Type: q.Type, Status: dns.Insecure}
	}
	return w.denial[key], nil
}

func (w *world) Own(_ context.Context, domain string) (bool, string, error) {
	return w.own[domain], "mydestination", nil
}
func (w *world) OwnHost(string) bool               { return false }
func (w *world) OwnAddr(a netip.Addr) bool         { return w.ownAddr[a] }
func (w *world) Verdict(host string) probe.Verdict { return w.verdict[host] }

type worldSTS struct{ *world }

func (w worldSTS) Lookup(context.Context, string) mtasts.Result { return w.sts }

func (worldSTS) Announce(string) {}

func (w worldSTS) Live(domain string) mtasts.Result {
	if w.sts.State != mtasts.Found {
		return mtasts.Result{Domain: domain, State: mtasts.Absent}
	}
	return w.sts
}

func newWorld() *world {
	return &world{
		answers: map[string]*dns.RRset{}, failing: map[string]bool{}, missing: map[string]bool{}, denial: map[string]*dns.RRset{},
		sts: mtasts.Result{State: mtasts.Absent}, verdict: map[string]probe.Verdict{}, own: map[string]bool{}, ownAddr: map[netip.Addr]bool{},
	}
}

func (w *world) service(set lookup.Settings) *lookup.Service {
	return lookup.New(lookup.Sources{Resolver: w, STS: worldSTS{w}, CachedSTS: worldSTS{w}, PassiveSTS: worldSTS{w}, CachedPassiveSTS: worldSTS{w}, Probes: w}, set, slog.New(slog.DiscardHandler))
}

func (w *world) settings() lookup.Settings {
	return lookup.Settings{
		Policy: policy.Options{DANE: true, MTASTS: true, Port26: policy.Port26Options{Mode: policy.PortProbe, Port: 26, Transport: "smtps26"}},
		Site:   w, CachedSite: w,
	}
}

// change changes one thing, by chance.
func (w *world) change(r *rand.Rand) {
	hosts := []string{"smtps-a.example.com", "smtps-b.example.com", "starttls-c.example.com", "mx.example.com"}
	host := hosts[r.IntN(len(hosts))]
	status := []dns.Status{dns.Secure, dns.Insecure}[r.IntN(2)]
	flip := func(m map[string]bool, key string) { m[key] = !m[key] }
	names := []string{"MX example.com", "A " + host, "AAAA " + host, "TLSA _25._tcp." + host, "TLSA _26._tcp." + host}
	switch r.IntN(9) {
	case 0, 1:
		rrset := &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: status}
		for _, i := range r.Perm(len(hosts))[:r.IntN(4)] {
			rrset.MX = append(rrset.MX, dns.MX{Preference: 10, Host: hosts[i]})
		}
		w.answers["MX example.com"] = rrset
	case 2:
		w.answers["A "+host] = &dns.RRset{Name: host, Owner: host, Type: dns.TypeA, Status: status, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))})}}
	case 3:
		name := "_2" + []string{"5", "6"}[r.IntN(2)] + "._tcp." + host
		w.answers["TLSA "+name] = &dns.RRset{Name: name, Owner: name, Type: dns.TypeTLSA, Status: status, TLSA: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}}
	case 4:
		modes := []mtasts.Mode{mtasts.Enforce, mtasts.Testing, mtasts.None}
		w.sts = mtasts.Result{Domain: "example.com", State: mtasts.Found, ID: string(rune('a' + r.IntN(26))), Fetched: time.Unix(r.Int64N(1e9), 0),
			Policy: mtasts.Policy{Mode: modes[r.IntN(3)], MX: []string{hosts[r.IntN(len(hosts))]}}}
	case 5:
		w.sts = mtasts.Result{Domain: "example.com", State: mtasts.State(r.IntN(2) + 1)}
	case 6:
		w.verdict[host] = probe.Verdict{State: probe.State(r.IntN(3)), Checked: time.Unix(r.Int64N(1e9), 0)}
	case 7:
		flip(w.own, "example.com")
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))})
		w.ownAddr[a] = !w.ownAddr[a]
	case 8:
		flip(w.failing, names[r.IntN(len(names))])
	}
}

// fresh gathers and decides without remembering anything.
func (w *world) fresh(set lookup.Settings, request string) string {
	m, key, _ := strings.Cut(request, " ")
	e := policy.Engine{Resolver: w, STS: worldSTS{w}, Probes: w, Site: w}
	if m == "transport" {
		next, _ := policy.ParseRecipient(key)
		f, _ := e.GatherRoute(context.Background(), next, set.Policy)
		return policy.Route(f, set.Policy).Reply.String()
	}
	next, _ := policy.ParseNexthop(key, 26)
	f, _ := e.Gather(context.Background(), next, set.Policy)
	d := policy.Decide(f, set.Policy)
	if m == "tls-policy-tlsrpt" && d.Reply.Status == socketmap.StatusOK {
		d.Reply.Text += d.TLSRPT
	}
	return d.Reply.String()
}

// TestMemoryNeverAnswersForOtherFacts changes the world at random and holds every answer of a service that remembers
// against one that is made afresh.
func TestMemoryNeverAnswersForOtherFacts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	w := newWorld()
	set := w.settings()
	old := w.service(set)
	answers := map[string]int{}
	for range 2000 {
		for range r.IntN(3) {
			w.change(r)
		}
		if r.IntN(200) == 0 {
			set.Policy.MixedMX = policy.Treatment(r.IntN(2))
			set.Policy.DANE = !set.Policy.DANE
			old.Configure(set)
		}
		for _, request := range []string{"tls-policy example.com", "tls-policy-tlsrpt example.com", "tls-policy example.com:26", "transport user@example.com", "tls-policy [smtps-a.example.com]"} {
			want := w.fresh(set, request)
			require.Equal(t, want, ask(old, request), request)
			require.Equal(t, want, ask(old, request), "and again: %s", request)
			answers[want]++
		}
	}
	require.Greater(t, len(answers), 20, "the world was too dull to show anything")
}

func TestMemoryHoldsNoLocalPartAndNoFailure(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.failing["MX example.com"] = true
	s := w.service(w.settings())
	require.Equal(t, "TEMP MX lookup for example.com failed: SERVFAIL", ask(s, "tls-policy example.com"))
	w.failing["MX example.com"] = false
	w.answers["MX example.com"] = &dns.RRset{Status: dns.Secure, MX: []dns.MX{{Host: "starttls-a.example.com"}}}
	require.Contains(t, ask(s, "tls-policy example.com"), "OK secure")
	w.missing["MX example.com"] = true
	require.Equal(t, "TEMP no facts were gathered", ask(s, "tls-policy example.com"), "what has expired is not answered")
}

// TestMemoryKeepsNothingHuge: strangers choose the domains of routes, and what their zones hold. What is remembered must
// not keep in memory what the cache has let go of.
func TestMemoryKeepsNothingHuge(t *testing.T) {
	t.Parallel()
	hosts := func(n int) *dns.RRset {
		r := &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: dns.Insecure}
		for i := range n {
			r.MX = append(r.MX, dns.MX{Host: fmt.Sprint("mx", i, ".", strings.Repeat("long.", 40), "example.com")})
		}
		return r
	}
	for _, c := range []struct {
		request string
		hosts   int
		kept    bool
	}{
		{"transport user@example.com", 5, true},
		{"transport user@example.com", 4096, false},
		{"tls-policy example.com", 5, true},
		{"tls-policy example.com", 20, false}, // 20 small answers, and some for each of them
	} {
		w := newWorld()
		w.answers["MX example.com"] = hosts(c.hosts)
		pinned := weak.Make(w.answers["MX example.com"])
		s := w.service(w.settings())
		for range 3 {
			require.Equal(t, "NOTFOUND ", ask(s, c.request))
		}
		clear(w.answers)
		runtime.GC()
		require.Equal(t, c.kept, pinned.Value() != nil, "%s with %d hosts", c.request, c.hosts)
		runtime.KeepAlive(s)
	}
}

// BenchmarkCached counts the allocations of a lookup whose facts are all at hand.
func BenchmarkCached(b *testing.B) {
	w := newWorld()
	w.answers["MX example.com"] = &dns.RRset{Status: dns.Secure, MX: []dns.MX{{Host: "starttls-a.example.com"}}}
	h := w.service(w.settings()).Handler()
	b.ReportAllocs()
	for b.Loop() {
		_ = h.ServeSocketmap(b.Context(), socketmap.Request{Map: "tls-policy", Key: "example.com"})
	}
}
