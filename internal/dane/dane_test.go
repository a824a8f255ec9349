package dane_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
)

// zone is a resolver that answers "TYPE name" from a table. It fails the test for any other question and for one that is
// asked twice.
type zone struct {
	t       *testing.T
	answers map[string]answer
	// late are questions that are answered after half a second, silent those that are not answered.
	late, silent string
	twice        string // may be asked again, because the cache would have the answer

	mu    sync.Mutex
	asked []string
}

type answer struct {
	rrset dns.RRset
	err   error
}

func (z *zone) Lookup(ctx context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	key := q.Type.String() + " " + q.Name
	switch key {
	case z.silent:
		<-ctx.Done()
		return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
	case z.late:
		select {
		case <-ctx.Done():
			return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
		case <-time.After(time.Second / 2):
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if slices.Contains(z.asked, key) && key != z.twice {
		z.t.Errorf("asked twice: %s", key)
	}
	z.asked = append(z.asked, key)
	a, ok := z.answers[key]
	if !ok {
		z.t.Errorf("needless question: %s", key)
		return nil, &dns.Error{Question: q, Reason: "needless question"}
	}
	if a.err != nil {
		return nil, a.err
	}
	a.rrset.Name, a.rrset.Type = q.Name, q.Type
	if a.rrset.Owner == "" {
		a.rrset.Owner = q.Name
	}
	return &a.rrset, nil
}

const (
	signed   = dns.Secure
	unsigned = dns.Insecure
)

func with(s dns.Status) answer {
	return answer{rrset: dns.RRset{Status: s, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
}

// alias is an answer with an address at the end of a chain of aliases.
func alias(s dns.Status, owner string) answer {
	a := with(s)
	a.rrset.Owner = owner
	return a
}

func none(s dns.Status) answer { return answer{rrset: dns.RRset{Status: s}} }

func nxdomain(s dns.Status) answer {
	return answer{rrset: dns.RRset{Status: s, NXDomain: true}}
}

func failing(reason string) answer { return answer{err: &dns.Error{Reason: reason}} }

func notCached() answer { return answer{err: dns.ErrNotCached} }

// digest is a usable record, pkix one that SMTP cannot use.
func digest() dns.TLSA {
	return dns.TLSA{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}
}

func pkix() dns.TLSA {
	return dns.TLSA{Usage: 1, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}
}

func tlsa(s dns.Status, records ...dns.TLSA) answer {
	return answer{rrset: dns.RRset{Status: s, Records: records}}
}

// cname is the answer to a question of type CNAME.
func cname(s dns.Status, target string) answer {
	return answer{rrset: dns.RRset{Status: s, Records: []string{target}}}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	const (
		a, aaaa = "A mx.example.com", "AAAA mx.example.com"
		at      = "TLSA _25._tcp.mx.example.com"
		target  = "TLSA _25._tcp.target.example.net"
		link    = "CNAME mx.example.com"
	)
	for _, c := range []struct {
		name  string
		zone  map[string]answer
		state dane.State
		addrs dns.Status
		base  string
		err   string
	}{
		// RFC 7672 section 2.2.2, "Not found".
		{"neither addresses nor a CNAME: the destination is unreachable", map[string]answer{a: none(signed), aaaa: none(signed)}, dane.Unreachable, 0, "", ""},
		{"the name does not exist: unreachable", map[string]answer{a: nxdomain(signed), aaaa: nxdomain(signed)}, dane.Unreachable, 0, "", ""},
		{"an unsigned denial: unreachable as well", map[string]answer{a: nxdomain(unsigned), aaaa: nxdomain(unsigned)}, dane.Unreachable, 0, "", ""},
		{"an alias to a name without addresses: unreachable", map[string]answer{a: {rrset: dns.RRset{Status: signed, Owner: "target.example.net"}}, aaaa: none(signed)}, dane.Unreachable, 0, "", ""},
		{"both address lookups fail: failed", map[string]answer{a: failing("SERVFAIL"), aaaa: failing("timed out")}, dane.Failed, 0, "", "A lookup for mx.example.com failed: SERVFAIL"},
		{"A fails and AAAA denies: failed", map[string]answer{a: failing("SERVFAIL"), aaaa: none(signed)}, dane.Failed, 0, "", "A lookup for mx.example.com failed: SERVFAIL"},
		{"AAAA fails and A denies: failed", map[string]answer{a: none(unsigned), aaaa: failing("bogus")}, dane.Failed, 0, "", "AAAA lookup for mx.example.com failed: bogus"},

		// "Non-CNAME".
		{"the address RRset is secure: the initial name is the candidate TLSA base domain", map[string]answer{a: with(signed), aaaa: with(signed), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"IPv4 only", map[string]answer{a: with(signed), aaaa: none(signed), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"IPv6 only", map[string]answer{a: none(signed), aaaa: with(signed), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"no secure TLSA records are found: DANE TLS is not applicable", map[string]answer{a: with(signed), aaaa: with(signed), at: none(signed)}, dane.Absent, signed, "", ""},
		{"the TLSA name does not exist: not applicable", map[string]answer{a: with(signed), aaaa: with(signed), at: nxdomain(signed)}, dane.Absent, signed, "", ""},
		{"insecure TLSA records are as good as none", map[string]answer{a: with(signed), aaaa: with(signed), at: tlsa(unsigned, digest())}, dane.Absent, signed, "", ""},
		{"insecure addresses: do not proceed to search for TLSA records", map[string]answer{a: with(unsigned), aaaa: with(unsigned)}, dane.Absent, unsigned, "", ""},
		{"one usable record among others suffices", map[string]answer{a: with(signed), aaaa: none(signed), at: tlsa(signed, pkix(), digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"secure records, none usable: TLS is mandatory, unauthenticated", map[string]answer{a: with(signed), aaaa: none(signed), at: tlsa(signed, pkix())}, dane.Unusable, signed, "mx.example.com", ""},
		{"a TLSA RRset that is an alias counts, if the chain is secure", map[string]answer{a: with(signed), aaaa: none(signed), at: {rrset: dns.RRset{Status: signed, Owner: "tlsa.example.net", Records: []dns.TLSA{digest()}}}}, dane.Usable, signed, "mx.example.com", ""},

		// Section 2.1.2: an error is not a denial.
		{"the TLSA lookup fails: the server MUST be treated as unreachable", map[string]answer{a: with(signed), aaaa: with(signed), at: failing("SERVFAIL (DNSSEC Bogus)")}, dane.Failed, signed, "", "TLSA lookup at _25._tcp.mx.example.com failed: SERVFAIL (DNSSEC Bogus)"},
		{"A fails and AAAA is secure: a blocked lookup does not turn DANE off", map[string]answer{a: failing("SERVFAIL"), aaaa: with(signed), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"AAAA fails and A is secure: the same", map[string]answer{a: with(signed), aaaa: failing("timed out"), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"AAAA fails and A is insecure: the zone is not signed", map[string]answer{a: with(unsigned), aaaa: failing("timed out")}, dane.Absent, unsigned, "", ""},
		{"A insecure, AAAA secure: the better one counts", map[string]answer{a: with(unsigned), aaaa: with(signed), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"A secure, AAAA insecure: the better one counts", map[string]answer{a: with(signed), aaaa: with(unsigned), at: none(signed)}, dane.Absent, signed, "", ""},
		{"a secure denial is not a secure address", map[string]answer{a: with(unsigned), aaaa: none(signed)}, dane.Absent, unsigned, "", ""},

		// "Secure CNAME".
		{"secure CNAME: the fully expanded name is tried first", map[string]answer{a: alias(signed, "target.example.net"), aaaa: alias(signed, "target.example.net"), target: tlsa(signed, digest())}, dane.Usable, signed, "target.example.net", ""},
		{"failing that, the initial name itself", map[string]answer{a: alias(signed, "target.example.net"), aaaa: none(signed), target: nxdomain(signed), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"insecure TLSA at the expanded name: the initial name", map[string]answer{a: alias(signed, "target.example.net"), aaaa: none(signed), target: tlsa(unsigned, digest()), at: tlsa(signed, digest())}, dane.Usable, signed, "mx.example.com", ""},
		{"none at either: DANE TLS does not apply", map[string]answer{a: alias(signed, "target.example.net"), aaaa: none(signed), target: none(signed), at: none(signed)}, dane.Absent, signed, "", ""},
		{"the first secure RRset wins, usable or not", map[string]answer{a: alias(signed, "target.example.net"), aaaa: none(signed), target: tlsa(signed, pkix())}, dane.Unusable, signed, "target.example.net", ""},
		{"the lookup at the expanded name fails: the initial name does not replace it", map[string]answer{a: alias(signed, "target.example.net"), aaaa: none(signed), target: failing("SERVFAIL")}, dane.Failed, signed, "", "TLSA lookup at _25._tcp.target.example.net failed: SERVFAIL"},
		{"the lookup at the initial name fails", map[string]answer{a: alias(signed, "target.example.net"), aaaa: none(signed), target: none(signed), at: failing("SERVFAIL")}, dane.Failed, signed, "", "TLSA lookup at _25._tcp.mx.example.com failed: SERVFAIL"},

		// "Insecure CNAME".
		{"the initial CNAME is secure, the addresses are not: the original name only", map[string]answer{a: alias(unsigned, "target.example.net"), aaaa: alias(unsigned, "target.example.net"), link: cname(signed, "target.example.net"), at: tlsa(signed, digest())}, dane.Usable, unsigned, "mx.example.com", ""},
		{"an intermediate name is never a candidate", map[string]answer{a: alias(unsigned, "target.example.net"), aaaa: none(unsigned), link: cname(signed, "middle.example.org"), at: none(signed)}, dane.Absent, unsigned, "", ""},
		{"the initial CNAME response is also insecure: DANE TLS does not apply", map[string]answer{a: alias(unsigned, "target.example.net"), aaaa: none(unsigned), link: cname(unsigned, "target.example.net")}, dane.Absent, unsigned, "", ""},
		{"the CNAME lookup fails: nothing is known", map[string]answer{a: alias(unsigned, "target.example.net"), aaaa: none(unsigned), link: failing("SERVFAIL")}, dane.Failed, unsigned, "", "CNAME lookup for mx.example.com failed: SERVFAIL"},
		{"the alias was removed since, securely: the original name", map[string]answer{a: alias(unsigned, "target.example.net"), aaaa: none(unsigned), link: none(signed), at: none(signed)}, dane.Absent, unsigned, "", ""},
		{"an alias in one of two insecure answers is looked into", map[string]answer{a: with(unsigned), aaaa: alias(unsigned, "target.example.net"), link: cname(signed, "target.example.net"), at: tlsa(signed, digest())}, dane.Usable, unsigned, "mx.example.com", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, late := range []string{"", a, aaaa} {
				synctest.Test(t, func(t *testing.T) {
					z := &zone{t: t, answers: c.zone, late: late}
					start := time.Now()
					r := lookup(t, z, dane.Query{Host: "MX.example.com.", Port: 25})
					require.LessOrEqual(t, time.Since(start), time.Second/2)
					synctest.Wait()
					require.Equal(t, c.state.String(), r.State.String(), r.Why)
					require.Equal(t, c.addrs, r.Addresses)
					require.Equal(t, c.base, baseOf(r))
					require.Equal(t, c.base != "", len(r.Records) > 0, "records go with their base domain")
					require.NotEmpty(t, r.Why)
					if c.err == "" {
						require.NoError(t, r.Err)
					} else {
						require.Error(t, r.Err)
						require.Contains(t, []string{c.err, "AAAA lookup for mx.example.com failed: timed out"}, r.Why)
					}
					if late == "" {
						require.Len(t, z.asked, len(c.zone), "every question that was expected, and no other: %q", z.asked)
					}
				})
			}
		})
	}
}

// TestOneSilentQuestion: one question is never answered. The result still arrives in time, and is the same as without
// that answer.
func TestOneSilentQuestion(t *testing.T) {
	t.Parallel()
	const (
		a, aaaa = "A mx.example.com", "AAAA mx.example.com"
		at      = "TLSA _25._tcp.mx.example.com"
		target  = "TLSA _25._tcp.target.example.net"
		link    = "CNAME mx.example.com"

		timeout = 3 * time.Second
	)
	insecureAlias := alias(unsigned, "target.example.net")
	for _, c := range []struct {
		name   string
		zone   map[string]answer
		silent string
		state  dane.State
		within time.Duration
	}{
		{"AAAA, insecure", map[string]answer{a: with(unsigned)}, aaaa, dane.Absent, time.Second},
		{"A, insecure", map[string]answer{aaaa: with(unsigned)}, a, dane.Absent, time.Second},
		{"AAAA, secure without TLSA", map[string]answer{a: with(signed), at: none(signed)}, aaaa, dane.Absent, 0},
		{"AAAA, secure with TLSA", map[string]answer{a: with(signed), at: tlsa(signed, digest())}, aaaa, dane.Usable, 0},
		{"A, secure with TLSA", map[string]answer{aaaa: with(signed), at: tlsa(signed, digest())}, a, dane.Usable, 0},
		{"AAAA, insecure alias", map[string]answer{a: insecureAlias, link: cname(unsigned, "target.example.net")}, aaaa, dane.Absent, time.Second},
		{"AAAA, secure alias", map[string]answer{a: alias(signed, "target.example.net"), target: tlsa(signed, digest())}, aaaa, dane.Usable, 0},
		{"AAAA, no A", map[string]answer{a: none(signed)}, aaaa, dane.Failed, timeout},
		{"A, no AAAA", map[string]answer{aaaa: none(signed)}, a, dane.Failed, timeout},
		{"TLSA", map[string]answer{a: with(signed), aaaa: with(signed)}, at, dane.Failed, timeout},
		{"TLSA at the expanded name", map[string]answer{a: alias(signed, "target.example.net"), aaaa: none(signed)}, target, dane.Failed, timeout},
		{"CNAME", map[string]answer{a: insecureAlias, aaaa: insecureAlias}, link, dane.Failed, timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				z := &zone{t: t, answers: c.zone, silent: c.silent}
				r := lookup(t, z, dane.Query{Host: "mx.example.com", Port: 25, Timeout: timeout})
				require.Equal(t, c.state, r.State, r.Why)
				require.Equal(t, c.within, time.Since(start))
			})
		})
	}
}

// TestOneAddressFamilyDecidesForASignedHost: AAAA is asked for only where A does not decide, or is late.
func TestOneAddressFamilyDecidesForASignedHost(t *testing.T) {
	t.Parallel()
	const a, aaaa, at = "A mx.example.com", "AAAA mx.example.com", "TLSA _25._tcp.mx.example.com"
	for _, c := range []struct {
		name   string
		a      answer
		silent string
		tlsa   answer
		asks   bool // for AAAA, whose addresses are secure
		state  dane.State
		within time.Duration
	}{
		{"secure with TLSA", with(signed), "", tlsa(signed, digest()), false, dane.Usable, 0},
		{"secure without TLSA", with(signed), "", none(signed), false, dane.Absent, 0},
		{"secure, and TLSA fails", with(signed), "", failing("SERVFAIL"), false, dane.Failed, 0},
		{"insecure", with(unsigned), "", tlsa(signed, digest()), true, dane.Usable, 0},
		{"no address", none(signed), "", tlsa(signed, digest()), true, dane.Usable, 0},
		{"failed", failing("SERVFAIL"), "", tlsa(signed, digest()), true, dane.Usable, 0},
		{"silent", answer{}, a, tlsa(signed, digest()), true, dane.Usable, 250 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				z := &zone{t: t, answers: map[string]answer{a: c.a, aaaa: with(signed), at: c.tlsa}, silent: c.silent}
				r := lookup(t, z, dane.Query{Host: "mx.example.com", Port: 25, Timeout: 4 * time.Second, Signed: true})
				require.Equal(t, c.state, r.State, r.Why)
				require.Equal(t, c.within, time.Since(start))
				require.Equal(t, c.asks, slices.Contains(z.asked, aaaa))
			})
		})
	}
}

func TestWhatIsNotCachedIsLeftToTheCaller(t *testing.T) {
	t.Parallel()
	const a, aaaa, at, link = "A mx.example.com", "AAAA mx.example.com", "TLSA _25._tcp.mx.example.com", "CNAME mx.example.com"
	for name, answers := range map[string]map[string]answer{
		"A: AAAA is not even asked":            {a: notCached()},
		"AAAA, and A leads to no TLSA records": {a: alias(signed, "target.example.net"), "TLSA _25._tcp.target.example.net": none(signed), at: none(signed), aaaa: notCached()},
		"AAAA, and A is insecure":              {a: with(unsigned), aaaa: notCached()},
		"AAAA, and A failed":                   {a: failing("SERVFAIL"), aaaa: notCached()},
		"TLSA":                                 {a: with(signed), at: notCached()},
		"CNAME":                                {a: alias(unsigned, "target.example.net"), link: notCached()},
		"TLSA at the second name":              {a: alias(signed, "target.example.net"), "TLSA _25._tcp.target.example.net": none(signed), at: notCached()},
		"TLSA behind a secure CNAME":           {a: alias(unsigned, "target.example.net"), link: cname(signed, "target.example.net"), at: notCached()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := &zone{t: t, answers: answers}
			r := lookup(t, z, dane.Query{Host: "mx.example.com", Port: 25, Effort: dns.Effort{CacheOnly: true}})
			require.Equal(t, dane.Result{Err: dns.ErrNotCached}, r, "nothing is known")
			require.Len(t, z.asked, len(answers))
		})
	}
}

func TestEveryQuestionHasTheEffortOfTheQuery(t *testing.T) {
	t.Parallel()
	for _, effort := range []dns.Effort{{}, {Untrusted: true}, {CacheOnly: true}} {
		z := &zone{t: t, answers: map[string]answer{"A mx.example.com": with(unsigned), "AAAA mx.example.com": with(signed), "TLSA _25._tcp.mx.example.com": none(signed)}}
		marked := resolverFunc(func(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
			if e != effort {
				t.Errorf("%s: effort %+v", q.Type, e)
			}
			return z.Lookup(ctx, q, e)
		})
		require.Equal(t, dane.Absent, lookup(t, marked, dane.Query{Host: "mx.example.com", Port: 25, Effort: effort}).State)
		require.Len(t, z.asked, 3)
	}
}

// lookup is dane.Lookup with a resolver that has no method Start. Its calls end with the lookup.
func lookup(t *testing.T, r dns.Resolver, q dane.Query) dane.Result {
	t.Helper()
	s := &starting{Resolver: r}
	defer s.all.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return dane.Lookup(ctx, s, q)
}

// baseOf returns the TLSA base domain that a result names, "" if there is none.
func baseOf(r dane.Result) string {
	_, at, _ := strings.Cut(r.Why, "TLSA records at _25._tcp.")
	base, _, _ := strings.Cut(at, ": ")
	return base
}

type starting struct {
	dns.Resolver
	all sync.WaitGroup
}

func (s *starting) Start(ctx context.Context, q dns.Question, e dns.Effort) *dns.Call {
	c := &dns.Call{Question: q, Done: make(chan struct{})}
	look := func() {
		defer close(c.Done)
		c.RRset, c.Err = s.Lookup(ctx, q, e)
	}
	if e.CacheOnly || ctx.Err() != nil {
		look()
	} else {
		s.all.Go(look)
	}
	return c
}

type resolverFunc func(context.Context, dns.Question, dns.Effort) (*dns.RRset, error)

func (f resolverFunc) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	return f(ctx, q, e)
}

// TestAddressLookupsRunSideBySide: either of the two is answered only once both were asked.
func TestAddressLookupsRunSideBySide(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Add(2)
	res := resolverFunc(func(_ context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
		if q.Type != dns.TypeA && q.Type != dns.TypeAAAA {
			return &dns.RRset{Name: q.Name, Owner: q.Name, Status: signed}, nil
		}
		both.Done()
		both.Wait()
		return &dns.RRset{Name: q.Name, Owner: q.Name, Status: signed, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, nil
	})
	r := lookup(t, res, dane.Query{Host: "mx.example.com", Port: 25})
	require.Equal(t, dane.Absent, r.State)
}

func TestAnErrorOfAnyKindIsAFailure(t *testing.T) {
	t.Parallel()
	z := &zone{t: t, answers: map[string]answer{"A mx.example.com": with(signed), "AAAA mx.example.com": none(signed), "TLSA _25._tcp.mx.example.com": {err: errors.New("odd\nthing")}}}
	r := lookup(t, z, dane.Query{Host: "mx.example.com", Port: 25})
	require.Equal(t, dane.Failed, r.State)
	require.Equal(t, "TLSA lookup at _25._tcp.mx.example.com failed: odd?thing", r.Why, "printable ASCII")
}

func TestTheZeroResultIsUnknown(t *testing.T) {
	t.Parallel()
	require.Equal(t, "unknown", dane.Result{}.State.String())
	require.Equal(t, dns.Indeterminate, dane.Result{}.Addresses)
}
