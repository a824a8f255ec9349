package gather_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
)

// table is a resolver that answers from a table and fails the test for any other question.
type table struct {
	t       *testing.T
	answers map[string]answer
	silent  []string // questions that are not answered

	mu      sync.Mutex
	asked   []string
	efforts map[dns.Effort]bool // of all questions
}

type answer struct {
	rrset dns.RRset
	err   error
}

// starting gives a resolver the method Start.
type starting struct{ dns.Resolver }

func (s starting) Start(ctx context.Context, q dns.Question, e dns.Effort) *dns.Call {
	c := &dns.Call{Question: q, Done: make(chan struct{})}
	look := func() {
		defer close(c.Done)
		c.RRset, c.Err = s.Lookup(ctx, q, e)
	}
	if e.CacheOnly {
		look()
	} else if c.Err = ctx.Err(); c.Err != nil { // like the cache, which asks nothing after the deadline
		close(c.Done)
	} else {
		go look()
	}
	return c
}

func (d *table) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	key := q.Type.String() + " " + q.Name
	d.mu.Lock()
	if !slices.Contains(d.asked, key) { // the cache shares concurrent questions and keeps the answers
		d.asked = append(d.asked, key)
	}
	if d.efforts == nil {
		d.efforts = map[dns.Effort]bool{}
	}
	d.efforts[e] = true
	d.mu.Unlock()
	if slices.Contains(d.silent, key) {
		if e.CacheOnly {
			return nil, dns.ErrNotCached
		}
		<-ctx.Done()
		return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
	}
	a, ok := d.answers[key]
	if !ok {
		d.t.Errorf("unexpected question: %s", key)
		return nil, errors.New("unexpected question")
	}
	if a.err != nil {
		return nil, a.err
	}
	a.rrset.Name = q.Name
	if a.rrset.Owner == "" {
		a.rrset.Owner = q.Name
	}
	return &a.rrset, nil
}

// questions returns the distinct questions so far; lookups that were cut short may still add to them.
func (d *table) questions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// usedEfforts returns the efforts of all questions so far.
func (d *table) usedEfforts() map[dns.Effort]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.efforts)
}

func mxs(status dns.Status, mx ...dns.MX) answer {
	return answer{rrset: dns.RRset{Status: status, Records: mx}}
}

func addrs(a ...string) answer {
	r := dns.RRset{Status: dns.Secure}
	for _, s := range a {
		r.Records = append(r.Addrs(), netip.MustParseAddr(s))
	}
	return answer{rrset: r}
}

func insecureAddrs() answer {
	a := addrs("192.0.2.1")
	a.rrset.Status = unsigned
	return a
}

func tlsa(status dns.Status) answer {
	return answer{rrset: dns.RRset{Status: status, Records: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}}}
}

func denial(status dns.Status) answer { return answer{rrset: dns.RRset{Status: status}} }

// stsFunc is a gather.STS made of a function.
type stsFunc func(ctx context.Context, domain string) mtasts.Result

func (f stsFunc) Lookup(ctx context.Context, domain string, _ dns.Effort) mtasts.Result {
	return f(ctx, domain)
}

// notAsked fails the test when the store of MTA-STS policies is asked.
func notAsked(t *testing.T) gather.STS {
	return stsFunc(func(context.Context, string) mtasts.Result {
		t.Error("the answer does not need MTA-STS")
		return mtasts.Result{}
	})
}

func says(r mtasts.Result) gather.STS {
	return stsFunc(func(context.Context, string) mtasts.Result { return r })
}

func noPolicy(*testing.T) gather.STS { return says(mtasts.Result{State: mtasts.Absent}) }

// site is a gather.Site of three lists.
type site struct {
	domains, hosts, addrs []string
	err                   error
}

func (s site) Own(_ context.Context, domain string, _ dns.Effort) (bool, string, error) {
	if slices.Contains(s.domains, domain) {
		return true, "mydestination has " + domain, nil
	}
	return false, "", s.err
}

func (s site) OwnHost(name string) bool { return slices.Contains(s.hosts, name) }

func (s site) OwnAddr(a netip.Addr) bool { return slices.Contains(s.addrs, a.String()) }

func (s site) RelayHost(context.Context, string, dns.Effort) (bool, error) { return false, nil }

var domain = policy.Nexthop{Name: "example.com", Port: 25}

const (
	signed   = dns.Secure
	unsigned = dns.Insecure
)

func defaults() policy.Options {
	return policy.Options{Mode: policy.ModeEnforce, Port26Mode: policy.PortAlways, Port26: 26, Transport: "smtps26"}
}

func withDANEAndSTS() policy.Options {
	o := defaults()
	o.DANE, o.MTASTS = true, true
	return o
}

func stsPolicy(m mtasts.Mode, mx ...string) mtasts.Result {
	return mtasts.Result{Domain: "example.com", State: mtasts.Found, ID: "20261101", Policy: mtasts.Policy{Mode: m, MX: mx}}
}

// decide decides from no facts, and returns also the facts that were found.
func decide(ctx context.Context, e *gather.Engine, by gather.Decider, n policy.Nexthop, o policy.Options,
	effort dns.Effort) (*policy.Facts, policy.Decision, error) {
	f := policy.NewFacts(n)
	d, err := e.Decide(ctx, by, f, o, effort)
	return f, d, err
}

// reply is what Postfix gets for a next hop.
func reply(t *testing.T, e *gather.Engine, n policy.Nexthop, o policy.Options) string {
	t.Helper()
	_, d, err := decide(t.Context(), e, policy.Decide, n, o, dns.Effort{})
	require.NoError(t, err)
	r := d.Reply(o, false)
	return r.String()
}

// TestEngineAsksNoMoreThanItNeeds lists the questions of each kind of domain. Any other fails the test.
func TestEngineAsksNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	const mx, s = "mx.example.com", "starttls-a.example.com"
	one := mxs(signed, dns.MX{Preference: 10, Host: mx})
	type zone = map[string]answer
	record := denial(unsigned)
	for _, c := range []struct {
		name    string
		next    policy.Nexthop
		answers zone
		sts     func(*testing.T) gather.STS
		want    string
	}{
		{"unsigned: no TLSA", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Host: mx}), "TXT _mta-sts.example.com": record, "A " + mx: insecureAddrs(), "AAAA " + mx: denial(unsigned)},
			noPolicy, "NOTFOUND "},
		{"unsigned with a prefix: no addresses", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Host: s}), "TXT _mta-sts.example.com": record},
			noPolicy, "OK secure match=" + s + " servername=hostname"},
		{"unsigned mixed set: the addresses in front", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Preference: 1, Host: mx}, dns.MX{Preference: 2, Host: s}), "TXT _mta-sts.example.com": record, "A " + mx: insecureAddrs(), "AAAA " + mx: denial(unsigned)},
			noPolicy, "OK secure match=" + s + " servername=hostname"},
		{"DANE decides: no MTA-STS policy is fetched", domain, zone{"MX example.com": one, "TXT _mta-sts.example.com": record, "A " + mx: addrs("192.0.2.1"), "TLSA _25._tcp." + mx: tlsa(signed)},
			notAsked, "OK dane-only"},
		{"DANE defers: no MTA-STS policy is fetched", domain, zone{"MX example.com": one, "TXT _mta-sts.example.com": record, "A " + mx: addrs("192.0.2.1"), "TLSA _25._tcp." + mx: {err: &dns.Error{Reason: "SERVFAIL"}}},
			notAsked, "TEMP TLSA lookup at _25._tcp.mx.example.com failed: SERVFAIL"},
		{"null MX: nothing more", domain, zone{"MX example.com": mxs(signed, dns.MX{})}, notAsked, "NOTFOUND "},
		{"secure NXDOMAIN: nothing more", domain, zone{"MX example.com": {rrset: dns.RRset{Status: signed, NXDomain: true}}}, notAsked, "NOTFOUND "},
		{"insecure NXDOMAIN: an implicit MX", domain, zone{"MX example.com": {rrset: dns.RRset{Status: unsigned, NXDomain: true}}, "TXT _mta-sts.example.com": record, "A example.com": insecureAddrs(), "AAAA example.com": denial(unsigned)},
			func(*testing.T) gather.STS { return says(stsPolicy(mtasts.Enforce, "example.com")) }, "OK secure match=example.com servername=hostname"},
		{"implicit MX: the domain is its host, without a prefix", policy.Nexthop{Name: "starttls-x.example", Port: 25}, zone{"MX starttls-x.example": denial(signed), "TXT _mta-sts.starttls-x.example": record, "A starttls-x.example": addrs("192.0.2.1"), "TLSA _25._tcp.starttls-x.example": denial(signed)},
			noPolicy, "NOTFOUND "},
		{"implicit MX with TLSA", domain, zone{"MX example.com": denial(signed), "TXT _mta-sts.example.com": record, "A example.com": addrs("192.0.2.1"), "TLSA _25._tcp.example.com": tlsa(signed)},
			notAsked, "OK dane-only"},
		{"[host]: no MX, no MTA-STS", policy.Nexthop{Name: mx, Host: true, Port: 25}, zone{"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: tlsa(signed)}, notAsked, "OK dane-only"},
		{"[host] on port 26: its own TLSA records", policy.Nexthop{Name: mx, Host: true, Port: 26}, zone{"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _26._tcp." + mx: denial(signed)}, notAsked, "NOTFOUND "},
		{"port 26 without smtps- hosts", policy.Nexthop{Name: "example.com", Port: 26}, zone{"MX example.com": one, "A " + mx: addrs("192.0.2.1"), "TLSA _26._tcp." + mx: denial(signed)}, notAsked, "NOTFOUND "},
		{"an MX that is not a host name is not looked up", domain, zone{"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: mx}, dns.MX{Preference: 20, Host: `a\032b.example`}), "TXT _mta-sts.example.com": record, "A " + mx: addrs("192.0.2.1"), "TLSA _25._tcp." + mx: tlsa(signed)},
			notAsked, "OK dane-only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &table{t: t, answers: c.answers}
				require.Equal(t, c.want, reply(t, &gather.Engine{Resolver: starting{d}, Site: site{}, STS: c.sts(t)}, c.next, withDANEAndSTS()))
				synctest.Wait() // for questions that were only expected
				require.Len(t, d.questions(), len(c.answers), "every question: %q", d.questions())
			})
		})
	}
	t.Run("no question with mode off, and for what the overrides decide", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "NOTFOUND ", reply(t, &gather.Engine{Resolver: starting{&table{t: t}}, Site: site{}}, domain, policy.Options{Mode: policy.ModeOff}))
		require.Equal(t, "OK secure match=starttls-a.example servername=hostname",
			reply(t, &gather.Engine{Resolver: starting{&table{t: t}}, Site: site{}}, policy.Nexthop{Name: "starttls-a.example", Host: true, Port: 25}, defaults()))
	})
}

func TestAFailedMXLookupIsAFact(t *testing.T) {
	t.Parallel()
	broken := &dns.Error{Reason: "SERVFAIL"}
	e := gather.Engine{Resolver: starting{&table{t: t, answers: map[string]answer{"MX example.com": {err: broken}}}}, Site: site{}}
	f, d, err := decide(t.Context(), &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
	require.NoError(t, err)
	require.Equal(t, policy.MX{Err: broken}, f.MX)
	require.Equal(t, policy.Defer, d.Verdict)
}

func TestThe32BestHostsAreConsidered(t *testing.T) {
	t.Parallel()
	var many []dns.MX
	for i := range uint16(1500) {
		many = append(many, dns.MX{Preference: i, Host: fmt.Sprintf("starttls-%d.example.com", i/2)})
	}
	e := gather.Engine{Resolver: starting{&table{t: t, answers: map[string]answer{"MX example.com": mxs(signed, many...)}}}, Site: site{}}
	f, d, err := decide(t.Context(), &e, policy.Decide, domain, defaults(), dns.Effort{})
	require.NoError(t, err)
	require.Len(t, f.Hosts, policy.MaxHosts)
	require.Equal(t, "starttls-31.example.com", f.Hosts[31].Name)
	require.Equal(t, 1500-64, f.MX.Rest)
	require.Equal(t, uint16(64), f.MX.RestPreference)
	require.Equal(t, policy.ReasonPrefixMixed, d.Reason)
}

// TestFromACacheThatLacksSomething: the error ends the decision, and the caller asks again.
func TestFromACacheThatLacksSomething(t *testing.T) {
	t.Parallel()
	const mx = "mx.example.com"
	known := dns.Effort{CacheOnly: true}
	full := func() map[string]answer {
		return map[string]answer{
			"MX example.com": mxs(signed, dns.MX{Host: mx}), "A " + mx: addrs(), "AAAA " + mx: addrs("2001:db8::1"), "TLSA _25._tcp." + mx: denial(signed),
		}
	}
	for missing := range full() {
		answers := full()
		answers[missing] = answer{err: dns.ErrNotCached}
		d := &table{t: t, answers: answers}
		e := gather.Engine{Resolver: starting{d}, Site: site{}, STS: noPolicy(t)}
		f, got, err := decide(t.Context(), &e, policy.Decide, domain, withDANEAndSTS(), known)
		require.ErrorIs(t, err, dns.ErrNotCached, missing)
		require.Equal(t, policy.Defer, got.Verdict, "what was found so far trusts nothing")
		require.Equal(t, map[dns.Effort]bool{known: true}, d.usedEfforts())

		again := &table{t: t, answers: full()}
		again.answers["TXT _mta-sts.example.com"] = denial(unsigned)
		e.Resolver = starting{again}
		got, err = e.Decide(t.Context(), policy.Decide, f, withDANEAndSTS(), dns.Effort{})
		require.NoError(t, err)
		require.Contains(t, again.questions(), missing)
		require.Equal(t, missing == "MX example.com", slices.Contains(again.questions(), "MX example.com"), missing)
		e.Resolver = starting{&table{t: t, answers: again.answers}}
		fresh, want, err := decide(t.Context(), &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, fresh.Hosts, f.Hosts)
	}
	e := gather.Engine{Resolver: starting{&table{t: t, answers: full()}}, Site: site{}, STS: says(mtasts.Result{Err: dns.ErrNotCached})}
	_, _, err := decide(t.Context(), &e, policy.Decide, domain, withDANEAndSTS(), known)
	require.ErrorIs(t, err, dns.ErrNotCached)

	answers := full()
	answers["TXT _mta-sts.example.com"] = denial(unsigned)
	for _, c := range []struct {
		sts  gather.STS
		want string
	}{
		{says(mtasts.Result{Err: errors.New("busy")}), "TEMP the MTA-STS policy of example.com is not known: busy"},
		{says(mtasts.Result{}), "TEMP the MTA-STS policy of example.com is not known: no answer"},
	} {
		e := gather.Engine{Resolver: starting{&table{t: t, answers: answers}}, Site: site{}, STS: c.sts}
		require.Equal(t, c.want, reply(t, &e, domain, withDANEAndSTS()))
	}
}

// TestALivePolicyHoldsAgainstAForgedMX: "If no "live" policy can be discovered … but a valid (non-expired) policy exists
// in the sender's cache, the sender MUST apply that cached policy" (RFC 8461 section 3.3). An attacker who can forge an
// unsigned MX RRset cannot forge the policy.
func TestALivePolicyHoldsAgainstAForgedMX(t *testing.T) {
	t.Parallel()
	const mx, evil = "mx.example.com", "mx.evil.example"
	held := says(stsPolicy(mtasts.Enforce, mx))
	gone := answer{rrset: dns.RRset{Status: unsigned, NXDomain: true}}
	const of = "OK secure match=mx.example.com servername=hostname"
	for _, c := range []struct {
		name string
		mx   answer
		sts  gather.STS
		want string
	}{
		{"another host, with DANE of its own", mxs(unsigned, dns.MX{Host: evil}), held, of},
		{"another host beside the right one", mxs(unsigned, dns.MX{Host: evil}, dns.MX{Host: mx}), held, of},
		{"the right host", mxs(unsigned, dns.MX{Host: mx}), held, of},
		{"a signed RRset is not forged: DANE", mxs(signed, dns.MX{Host: evil}), held, "OK dane-only"},
		{"the domain does not exist", gone, held, of},
		{"null MX", mxs(unsigned, dns.MX{}), held, of},
		{"the domain securely does not exist", answer{rrset: dns.RRset{Status: signed, NXDomain: true}}, held, "NOTFOUND "},
		{"a policy that is not enforced", gone, says(stsPolicy(mtasts.Testing, mx)), "NOTFOUND "},
		{"no policy: DANE", mxs(unsigned, dns.MX{Host: evil}), noPolicy(t), "OK dane"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answers := map[string]answer{"MX example.com": c.mx, "TXT _mta-sts.example.com": denial(unsigned), "A example.com": denial(unsigned), "AAAA example.com": denial(unsigned)}
			for _, h := range []string{mx, evil} {
				answers["A "+h], answers["AAAA "+h], answers["TLSA _25._tcp."+h] = addrs("192.0.2.1"), denial(signed), tlsa(signed)
			}
			e := gather.Engine{Resolver: starting{&table{t: t, answers: answers}}, Site: site{}, STS: c.sts}
			require.Equal(t, c.want, reply(t, &e, domain, withDANEAndSTS()))
			off := withDANEAndSTS()
			off.MTASTS = false
			_, d, err := decide(t.Context(), &e, policy.Decide, domain, off, dns.Effort{})
			require.NoError(t, err)
			require.NotEqual(t, policy.SourceMTASTS, d.Source())
		})
	}
}

// panicking is a resolver that panics over a question of one type.
type panicking struct {
	starting
	over dns.Type
}

func (p panicking) Start(ctx context.Context, q dns.Question, e dns.Effort) *dns.Call {
	if q.Type == p.over {
		panic("what a record")
	}
	return p.starting.Start(ctx, q, e)
}

// TestAPanicIsRaisedInTheGoroutineOfTheCaller: the caller recovers from it, so it does not end the daemon.
func TestAPanicIsRaisedInTheGoroutineOfTheCaller(t *testing.T) {
	t.Parallel()
	d := &table{t: t, answers: map[string]answer{
		"MX example.com":     mxs(signed, dns.MX{Preference: 10, Host: "a.example.com"}, dns.MX{Preference: 20, Host: "b.example.com"}),
		"A a.example.com":    addrs("192.0.2.1"),
		"A b.example.com":    addrs("192.0.2.2"),
		"AAAA a.example.com": denial(signed),
		"AAAA b.example.com": denial(signed),
	}}
	e := gather.Engine{Resolver: panicking{starting{d}, dns.TypeTLSA}, Site: site{}}
	defer func() { require.Contains(t, fmt.Sprint(recover()), "what a record") }()
	_, _, err := decide(t.Context(), &e, policy.Decide, domain, policy.Options{DANE: true}, dns.Effort{})
	require.Fail(t, "no panic", err)
}
