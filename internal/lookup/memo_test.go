package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// fakeSources implements every source: its answers can be changed, and it answers from memory, like a cache that has
// everything.
type fakeSources struct {
	answers map[string]*dns.RRset // "MX example.com"; a name that is missing is a denial
	failing map[string]bool
	missing map[string]bool // not cached
	sts     mtasts.Result
	verdict map[string]probe.Verdict
	own     map[string]bool
	ownAddr map[netip.Addr]bool
	version uint64

	mu     sync.Mutex // guards denial: the questions of a decision are asked at the same time
	denial map[string]*dns.RRset
}

func (w *fakeSources) Lookup(_ context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
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
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.denial[key] == nil {
		w.denial[key] = &dns.RRset{Name: q.Name, Owner: q.Name, Type: q.Type, Status: dns.Insecure}
	}
	return w.denial[key], nil
}

func (w *fakeSources) Own(_ context.Context, domain string, _ dns.Effort) (bool, string, error) {
	return w.own[domain], "mydestination", nil
}
func (w *fakeSources) RelayHost(context.Context, string, dns.Effort) (bool, error) {
	return false, nil
}
func (w *fakeSources) OwnHost(string) bool               { return false }
func (w *fakeSources) OwnAddr(a netip.Addr) bool         { return w.ownAddr[a] }
func (w *fakeSources) Verdict(host string) probe.Verdict { return w.verdict[host] }

type fakeSTS struct{ *fakeSources }

func (w fakeSTS) Lookup(context.Context, string, dns.Effort) mtasts.Result { return w.sts }

func newFakeSources() *fakeSources {
	return &fakeSources{
		answers: map[string]*dns.RRset{}, failing: map[string]bool{}, missing: map[string]bool{}, denial: map[string]*dns.RRset{},
		sts: mtasts.Result{State: mtasts.Absent}, verdict: map[string]probe.Verdict{}, own: map[string]bool{}, ownAddr: map[netip.Addr]bool{},
	}
}

// engine finds decisions without remembering anything.
func (w *fakeSources) engine() gather.Engine {
	return gather.Engine{Resolver: starting{w}, STS: fakeSTS{w}, Verdict: w.Verdict, Site: w}
}

func (w *fakeSources) sources() lookup.Sources {
	return lookup.Sources{Engine: w.engine(), Version: func() uint64 { return 0 }}
}

func (w *fakeSources) service(set lookup.Settings) *lookup.Service {
	version := func() uint64 { return 1 + w.version }
	src := w.sources()
	src.Version = version
	return lookup.New(src, set, slog.New(slog.DiscardHandler))
}

func (w *fakeSources) settings() lookup.Settings {
	return lookup.Settings{
		Wait:   200 * time.Millisecond,
		Policy: policy.Options{Mode: policy.ModeEnforce, DANE: true, MTASTS: true, Port26Mode: policy.PortProbe, Port26: 26, Transport: "smtps26"},
	}
}

// change makes one random change.
func (w *fakeSources) change(r *rand.Rand) {
	hosts := []string{"smtps-a.example.com", "smtps-b.example.com", "starttls-c.example.com", "mx.example.com"}
	host := hosts[r.IntN(len(hosts))]
	status := []dns.Status{dns.Secure, dns.Insecure}[r.IntN(2)]
	flip := func(m map[string]bool, key string) { m[key] = !m[key] }
	w.version++
	names := []string{"MX example.com", "A " + host, "AAAA " + host, "TLSA _25._tcp." + host, "TLSA _26._tcp." + host}
	switch r.IntN(9) {
	case 0, 1:
		rrset := &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: status}
		for _, i := range r.Perm(len(hosts))[:r.IntN(4)] {
			rrset.Records = append(rrset.MX(), dns.MX{Preference: 10, Host: hosts[i]})
		}
		w.answers["MX example.com"] = rrset
	case 2:
		w.answers["A "+host] = &dns.RRset{Name: host, Owner: host, Type: dns.TypeA, Status: status, Records: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))})}}
	case 3:
		name := "_2" + []string{"5", "6"}[r.IntN(2)] + "._tcp." + host
		w.answers["TLSA "+name] = &dns.RRset{Name: name, Owner: name, Type: dns.TypeTLSA, Status: status, Records: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}}
	case 4:
		modes := []mtasts.Mode{mtasts.Enforce, mtasts.Testing, mtasts.None}
		w.sts = mtasts.Result{Domain: "example.com", State: mtasts.Found, ID: string(rune('a' + r.IntN(26))), Fetched: time.Unix(r.Int64N(1e9), 0),
			Policy: mtasts.Policy{Mode: modes[r.IntN(3)], MX: []string{hosts[r.IntN(len(hosts))]}}}
	case 5:
		w.sts = mtasts.Result{Domain: "example.com", State: []mtasts.State{mtasts.Absent, mtasts.Found}[r.IntN(2)]}
	case 6: // the version covers neither the probes nor the site
		w.version--
		w.verdict[host] = probe.Verdict{State: []probe.State{probe.Unknown, probe.Closed, probe.Open}[r.IntN(3)], Checked: time.Unix(r.Int64N(1e9), 0)}
	case 7:
		w.version--
		flip(w.own, "example.com")
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))})
		w.ownAddr[a] = !w.ownAddr[a]
	case 8:
		flip(w.failing, names[r.IntN(len(names))])
	}
}

// fresh gathers and decides without remembering anything.
func (w *fakeSources) fresh(set lookup.Settings, request string) string {
	m, key, _ := strings.Cut(request, " ")
	e := w.engine()
	if m == "transport" {
		name, _ := policy.ParseName(key[strings.LastIndexByte(key, '@')+1:])
		next := policy.Nexthop{Name: name, Port: prefix.SMTPPort}
		d, _ := e.Decide(context.Background(), policy.Route, policy.NewFacts(next), set.Policy, dns.Effort{CacheOnly: true})
		r := d.Reply(set.Policy, false)
		return r.String()
	}
	next, _ := policy.ParseNexthop(key, 26)
	d, _ := e.Decide(context.Background(), policy.Decide, policy.NewFacts(next), set.Policy, dns.Effort{CacheOnly: true})
	r := d.Reply(set.Policy, m == "tls-policy-tlsrpt")
	return r.String()
}

// TestTheMemoNeverAnswersForOtherFacts changes the facts at random, and compares every answer of a service with a memo
// with a new decision.
func TestTheMemoNeverAnswersForOtherFacts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	w := newFakeSources()
	set := w.settings()
	old := w.service(set)
	answers := map[string]int{}
	for range 2000 {
		for range r.IntN(3) {
			w.change(r)
		}
		if r.IntN(200) == 0 {
			set.Policy.IgnoreMixed = r.IntN(2) == 1
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
	require.Greater(t, len(answers), 20, "too few different answers to show anything")
}

func TestTheMemoHoldsNoLocalPartAndNoFailure(t *testing.T) {
	t.Parallel()
	w := newFakeSources()
	w.failing["MX example.com"] = true
	s := w.service(w.settings())
	require.Equal(t, "TEMP MX lookup for example.com failed: SERVFAIL", ask(s, "tls-policy example.com"))
	w.failing["MX example.com"] = false
	w.version++
	w.answers["MX example.com"] = &dns.RRset{Status: dns.Secure, Records: []dns.MX{{Host: "starttls-a.example.com"}}}
	require.Contains(t, ask(s, "tls-policy example.com"), "OK secure")
	w.missing["MX example.com"] = true
	w.version++
	require.Contains(t, ask(s, "tls-policy example.com"), "TEMP", "what has expired is not answered")
}

// TestTheMemoKeepsNoAnswersOfTheCache: untrusted senders choose the domains of routes, and the contents of their zones.
func TestTheMemoKeepsNoAnswersOfTheCache(t *testing.T) {
	t.Parallel()
	for _, request := range []string{"transport user@example.com", "tls-policy example.com"} {
		for _, hosts := range []int{5, 4096} {
			w := newFakeSources()
			rrset := &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: dns.Insecure}
			for i := range hosts {
				rrset.Records = append(rrset.MX(), dns.MX{Host: fmt.Sprint("mx", i, ".", strings.Repeat("long.", 40), "example.com")})
			}
			w.answers["MX example.com"] = rrset
			pinned := weak.Make(rrset)
			s := w.service(w.settings())
			for range 3 {
				require.Equal(t, "NOTFOUND ", ask(s, request))
			}
			rrset = nil
			clear(w.answers)
			runtime.GC()
			require.Nil(t, pinned.Value(), "%s with %d hosts", request, hosts)
			runtime.KeepAlive(s)
		}
	}
}

// TestNothingKeepsPreviousSettings: remembered answers, and routes that are looked up, end with the settings they were
// made under.
func TestNothingKeepsPreviousSettings(t *testing.T) {
	t.Parallel()
	w := newFakeSources()
	w.answers["MX example.com"] = &dns.RRset{Status: dns.Secure, Records: []dns.MX{{Host: "starttls-a.example.com"}}}
	set := w.settings()
	var previous []weak.Pointer[byte]
	next := func(n int) {
		name := fmt.Sprintf("d%d.example", n)
		text := "secure match=mx." + name + " servername=hostname"
		previous = append(previous, weak.Make(unsafe.StringData(text)))
		set.Policy.Overrides = policy.Overrides{name: {Pattern: name, Policy: text}}
	}
	next(0)
	s := w.service(set)
	defer running(s)()
	for n := range 5 {
		for _, request := range []string{
			"tls-policy example.com", fmt.Sprintf("tls-policy d%d.example", n), fmt.Sprintf("tls-policy-tlsrpt d%d.example", n),
			"transport user@example.com", fmt.Sprintf("transport user@d%d.example", n),
		} {
			ask(s, request)
			ask(s, request)
		}
		w.missing[fmt.Sprintf("MX slow%d.example", n)] = true
		ask(s, fmt.Sprintf("transport user@slow%d.example", n)) // looked up in the background
		next(n + 1)
		s.Configure(set)
	}
	for n, o := range previous[:5] {
		require.Eventually(t, func() bool { runtime.GC(); return o.Value() == nil }, 10*time.Second, time.Millisecond, "reload %d", n)
	}
	require.NotNil(t, previous[5].Value())
	runtime.KeepAlive(s)
}

// TestTheMemoEndsWithItsFacts: it never outlives a change of the cache, an expiry, or ten seconds.
func TestTheMemoEndsWithItsFacts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cache := dnscache.New(resolverFunc(everyKind), dnscache.Options{})
		var looks atomic.Int64
		cached := resolverFunc(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
			looks.Add(1)
			return cache.Lookup(ctx, q, dns.Effort{CacheOnly: true})
		})
		sts := fakeSTS{newFakeSources()}
		version := func() uint64 { return cache.Version() + sts.version }
		set := settings()
		set.Policy.MTASTS = true
		src := from(views{asking: cache, cached: cached})
		src.Version, src.STS = version, sts
		s := lookup.New(src, set, slog.New(slog.DiscardHandler))
		looked := func() bool {
			looks.Store(0)
			require.Equal(t, "OK secure match=smtps-mx.example.com:starttls-mx.example.com servername=hostname", ask(s, "tls-policy example.com"))
			return looks.Load() > 0
		}
		settled := func() {
			for range 2 { // asked, remembered
				looked()
			}
			require.False(t, looked())
		}
		settled()
		_, err := cache.Lookup(t.Context(), dns.Question{Name: "another.example", Type: dns.TypeMX}, dns.Effort{})
		require.NoError(t, err)
		require.False(t, looked(), "the answer does not rest on it")
		require.Positive(t, cache.Flush(dns.Within("example.com")))
		require.True(t, looked(), "the very answer is gone")
		settled()
		time.Sleep(10 * time.Second)
		require.True(t, looked(), "so that the cache learns what is in use")
		settled()
		time.Sleep(24*time.Hour - 10*time.Second - 100*time.Millisecond)
		settled()
		time.Sleep(100 * time.Millisecond)
		require.True(t, looked(), "expired")
		settled()

		sts.sts = mtasts.Result{Domain: "example.com", State: mtasts.Found, ID: "1", Expires: time.Now().Add(time.Second), Policy: mtasts.Policy{Mode: mtasts.Testing}}
		sts.version++
		require.True(t, looked(), "a policy was fetched")
		settled()
		time.Sleep(time.Second)
		require.True(t, looked(), "the policy has expired")
		sts.sts.Expires, sts.sts.RecordExpires = time.Time{}, time.Now().Add(time.Second)
		sts.version++
		settled()
		time.Sleep(time.Second)
		require.True(t, looked(), "the TXT record has expired")

		for name, unsure := range map[string]mtasts.Result{
			"stale":  {Domain: "example.com", State: mtasts.Found, ID: "1", Stale: true, Policy: mtasts.Policy{Mode: mtasts.Testing}},
			"failed": {Domain: "example.com", State: mtasts.Failed, Why: "HTTP status 500"},
		} {
			sts.sts = unsure
			sts.version++
			for range 4 {
				require.True(t, looked(), "%s: it ends by itself", name)
			}
		}
		sts.sts = mtasts.Result{Domain: "example.com", Err: errors.New("busy")}
		sts.version++
		for range 3 {
			looks.Store(0)
			require.Contains(t, ask(s, "tls-policy example.com"), "TEMP")
			require.Positive(t, looks.Load(), "an unknown MTA-STS state is never remembered")
		}
	})
}

// BenchmarkCached counts the allocations of a lookup whose facts are all at hand.
func BenchmarkCached(b *testing.B) {
	w := newFakeSources()
	w.answers["MX example.com"] = &dns.RRset{Status: dns.Secure, Records: []dns.MX{{Host: "starttls-a.example.com"}}}
	h := w.service(w.settings())
	b.ReportAllocs()
	for b.Loop() {
		_ = h.ServeSocketmap(b.Context(), socketmap.Request{Map: "tls-policy", Key: "example.com"})
	}
}

// TestAnAnswerThatRestsOnAnUnknownPolicyIsNotRemembered: DANE decides while the MTA-STS policy is unknown, and might decide
// otherwise once it is known.
func TestAnAnswerThatRestsOnAnUnknownPolicyIsNotRemembered(t *testing.T) {
	t.Parallel()
	w := newFakeSources()
	const a, b = "mx-a.example.com", "mx-b.example.com"
	w.answers["MX example.com"] = &dns.RRset{Status: dns.Secure, Records: []dns.MX{{Host: a}, {Host: b}}}
	for _, host := range []string{a, b} {
		w.answers["A "+host] = &dns.RRset{Name: host, Owner: host, Status: dns.Secure, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	}
	w.answers["TLSA _25._tcp."+a] = &dns.RRset{Status: dns.Secure, Records: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}}
	for _, unknown := range []mtasts.Result{{Err: errors.New("busy")}, {Why: "busy"}} {
		w.sts = unknown
		s := w.service(w.settings())
		require.Equal(t, "OK dane-only", ask(s, "tls-policy example.com"))
		w.sts = mtasts.Result{State: mtasts.Absent} // and the version is the same
		require.Equal(t, "OK dane", ask(s, "tls-policy example.com"))
		w.sts = unknown
		require.Equal(t, "OK dane", ask(s, "tls-policy example.com"), "this one is remembered")
	}
}

// TestAnAnswerThatRestsOnAFailureIsNotRemembered: a failure ends by itself, without a change of the version.
func TestAnAnswerThatRestsOnAFailureIsNotRemembered(t *testing.T) {
	t.Parallel()
	w := newFakeSources()
	const a, b = "mx-a.example.com", "mx-b.example.com"
	w.answers["MX example.com"] = &dns.RRset{Status: dns.Secure, Records: []dns.MX{{Host: a}, {Host: b}}}
	for _, host := range []string{a, b} {
		w.answers["A "+host] = &dns.RRset{Name: host, Owner: host, Status: dns.Secure, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	}
	w.answers["TLSA _25._tcp."+a] = &dns.RRset{Status: dns.Secure, Records: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}}
	w.failing["TLSA _25._tcp."+b] = true
	s := w.service(w.settings())
	require.Equal(t, "OK dane-only", ask(s, "tls-policy example.com"))
	w.failing["TLSA _25._tcp."+b] = false // and the version is the same
	require.Equal(t, "OK dane", ask(s, "tls-policy example.com"))
}
