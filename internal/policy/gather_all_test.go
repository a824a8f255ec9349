package policy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
)

// stsFunc is a policy.STS made of a function.
type stsFunc func(ctx context.Context, domain string) mtasts.Result

func (f stsFunc) Lookup(ctx context.Context, domain string) mtasts.Result { return f(ctx, domain) }

func (stsFunc) Announce(string) {}

// Live knows of no live policy.
func (stsFunc) Live(domain string) mtasts.Result {
	return mtasts.Result{Domain: domain, State: mtasts.Absent}
}

// keeps is a policy.STS with a live policy, that it can be asked for too.
type keeps struct{ mtasts.Result }

func (k keeps) Lookup(context.Context, string) mtasts.Result { return k.Result }
func (k keeps) Announce(string)                              {}
func (k keeps) Live(string) mtasts.Result                    { return k.Result }

// notAsked fails the test when MTA-STS is asked for.
func notAsked(t *testing.T) policy.STS {
	return stsFunc(func(context.Context, string) mtasts.Result {
		t.Error("MTA-STS was asked for, and the answer does not need it")
		return mtasts.Result{}
	})
}

func says(r mtasts.Result) policy.STS {
	return stsFunc(func(context.Context, string) mtasts.Result { return r })
}

func insecureAddrs() answer {
	a := addrs("192.0.2.1")
	a.rrset.Status = unsigned
	return a
}

func tlsa(status dns.Status) answer {
	return answer{rrset: dns.RRset{Status: status, TLSA: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}}}
}

func denial(status dns.Status) answer { return answer{rrset: dns.RRset{Status: status}} }

// TestGatherAsksNoMoreThanItNeeds counts the questions of a cold domain; any that is not listed fails the test.
func TestGatherAsksNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	const mx = "mx.example.com"
	one := mxs(signed, dns.MX{Preference: 10, Host: mx})
	prefixed := mxs(unsigned, dns.MX{Preference: 10, Host: "starttls-a.example.com"})
	absent := mtasts.Result{State: mtasts.Absent}
	for _, c := range []struct {
		name    string
		next    policy.Nexthop
		answers map[string]answer
		sts     func(*testing.T) policy.STS
		want    string
	}{
		{"plain and unsigned: no TLSA", domain, map[string]answer{"MX example.com": mxs(unsigned, dns.MX{Host: mx}), "A " + mx: insecureAddrs(), "AAAA " + mx: denial(unsigned)},
			func(*testing.T) policy.STS { return says(absent) }, "NOTFOUND "},
		{"prefix and unsigned", domain, map[string]answer{"MX example.com": prefixed, "A starttls-a.example.com": insecureAddrs(), "AAAA starttls-a.example.com": denial(unsigned)},
			func(*testing.T) policy.STS { return says(absent) }, "OK secure match=starttls-a.example.com servername=hostname"},
		{"DANE decides: no MTA-STS", domain, map[string]answer{"MX example.com": one, "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: tlsa(signed)},
			notAsked, "OK dane-only"},
		{"DANE defers: no MTA-STS", domain, map[string]answer{"MX example.com": one, "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: {err: &dns.Error{Reason: "SERVFAIL"}}},
			notAsked, "TEMP TLSA lookup at _25._tcp.mx.example.com failed: SERVFAIL"},
		{"null MX: nothing more", domain, map[string]answer{"MX example.com": mxs(signed, dns.MX{})}, notAsked, "NOTFOUND "},
		{"NXDOMAIN: nothing more", domain, map[string]answer{"MX example.com": {rrset: dns.RRset{Status: signed, NXDomain: true}}}, notAsked, "NOTFOUND "},
		{"implicit MX: the domain is its host, without a prefix", policy.Nexthop{Name: "starttls-x.example", Port: 25}, map[string]answer{"MX starttls-x.example": denial(signed), "A starttls-x.example": addrs("192.0.2.1"), "AAAA starttls-x.example": denial(signed), "TLSA _25._tcp.starttls-x.example": denial(signed)},
			func(*testing.T) policy.STS { return says(absent) }, "NOTFOUND "},
		{"implicit MX with TLSA", domain, map[string]answer{"MX example.com": denial(signed), "A example.com": addrs("192.0.2.1"), "AAAA example.com": denial(signed), "TLSA _25._tcp.example.com": tlsa(signed)},
			notAsked, "OK dane-only"},
		{"[host]: no MX, no MTA-STS", policy.Nexthop{Name: mx, Host: true, Port: 25}, map[string]answer{"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: tlsa(signed)}, notAsked, "OK dane-only"},
		{"[host] on port 26: its own TLSA records", policy.Nexthop{Name: mx, Host: true, Port: 26}, map[string]answer{"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _26._tcp." + mx: denial(signed)}, notAsked, "NOTFOUND "},
		{"port 26 without smtps- hosts: no MTA-STS", policy.Nexthop{Name: "example.com", Port: 26}, map[string]answer{"MX example.com": one, "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _26._tcp." + mx: denial(signed)}, notAsked, "NOTFOUND "},
		{"an MX that is no host name is not looked up", domain, map[string]answer{"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: mx}, dns.MX{Preference: 20, Host: `a\032b.example`}), "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: tlsa(signed)},
			notAsked, "OK dane-only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := &table{t: t, answers: c.answers}
			e := policy.Engine{Resolver: d, STS: c.sts(t)}
			f, err := e.Gather(t.Context(), c.next, withDANEAndSTS())
			require.NoError(t, err)
			require.Equal(t, c.want, policy.Decide(f, withDANEAndSTS()).Reply.String())
			require.Len(t, d.asked, len(c.answers), "every question once")
		})
	}
}

// announcing is a policy.STS that knows no policies and notes what its record was asked for after.
type announcing struct {
	stsFunc
	dns   *table
	after []int
}

func (a *announcing) Announce(string) {
	a.dns.mu.Lock()
	defer a.dns.mu.Unlock()
	a.after = append(a.after, len(a.dns.asked))
}

// TestTheRecordIsAskedForWithTheAddresses: only where it is hardly ever in vain.
func TestTheRecordIsAskedForWithTheAddresses(t *testing.T) {
	t.Parallel()
	const mx, smtps = "mx.example.com", "smtps-a.example.com"
	for _, c := range []struct {
		name   string
		next   policy.Nexthop
		status dns.Status
		host   string
		waits  bool
		change func(*policy.Options)
		want   []int
	}{
		{"unsigned: after the MX records", domain, unsigned, mx, true, nil, []int{1}},
		{"unsigned, with a prefix", domain, unsigned, smtps, true, nil, []int{1}},
		{"signed: DANE may decide", domain, signed, mx, true, nil, nil},
		{"signed, with a prefix", domain, signed, smtps, true, nil, []int{1}},
		{"from the cache", domain, unsigned, mx, false, nil, nil},
		{"without MTA-STS", domain, unsigned, mx, true, func(o *policy.Options) { o.MTASTS = false }, nil},
		{"port 26 of a plain host", policy.Nexthop{Name: "example.com", Port: 26}, unsigned, mx, true, nil, nil},
		{"port 26 of a host with a prefix", policy.Nexthop{Name: "example.com", Port: 26}, unsigned, smtps, true, nil, []int{1}},
		{"null MX", domain, unsigned, "", true, nil, nil},
		{"a host", policy.Nexthop{Name: mx, Host: true, Port: 25}, unsigned, mx, true, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := &table{t: t, answers: map[string]answer{"MX example.com": mxs(c.status, dns.MX{Preference: 10, Host: c.host}), "A " + c.host: insecureAddrs(), "AAAA " + c.host: denial(unsigned)}}
			sts := &announcing{dns: d, stsFunc: func(context.Context, string) mtasts.Result { return mtasts.Result{State: mtasts.Absent} }}
			o := withDANEAndSTS()
			if c.change != nil {
				c.change(&o)
			}
			e := policy.Engine{Resolver: d, STS: sts, Waits: c.waits}
			_, err := e.Gather(t.Context(), c.next, o)
			require.NoError(t, err)
			require.Equal(t, c.want, sts.after)
		})
	}
}

// TestALivePolicyHoldsAgainstAForgedMX: "If no "live" policy can be discovered … but a valid (non-expired) policy exists in the
// sender's cache, the sender MUST apply that cached policy" (RFC 8461 section 3.3). It is the one thing here that who can
// forge an unsigned MX RRset cannot forge.
func TestALivePolicyHoldsAgainstAForgedMX(t *testing.T) {
	t.Parallel()
	const mx, evil = "mx.example.com", "mx.evil.example"
	held := keeps{stsPolicy(mtasts.Enforce, mx)}
	loading := keeps{mtasts.Result{Err: dns.ErrNotCached}}
	host := func(name string, t answer) map[string]answer {
		return map[string]answer{"A " + name: addrs("192.0.2.1"), "AAAA " + name: denial(signed), "TLSA _25._tcp." + name: t, "TLSA _26._tcp." + name: t}
	}
	gone := answer{rrset: dns.RRset{Status: unsigned, NXDomain: true}}
	for _, c := range []struct {
		name string
		mx   answer
		sts  policy.STS
		want string
	}{
		{"another host, with DANE of its own", mxs(unsigned, dns.MX{Host: evil}), held, "OK secure match=mx.example.com servername=hostname"},
		{"another host beside the right one", mxs(unsigned, dns.MX{Host: evil}, dns.MX{Host: mx}), held, "OK secure match=mx.example.com servername=hostname"},
		{"the right host: the policy decides", mxs(unsigned, dns.MX{Host: mx}), held, "OK secure match=mx.example.com servername=hostname"},
		{"a signed RRset is not forged: DANE", mxs(signed, dns.MX{Host: evil}), held, "OK dane-only"},
		{"the domain does not exist", gone, held, "OK secure match=mx.example.com servername=hostname"},
		{"null MX", mxs(unsigned, dns.MX{}), held, "OK secure match=mx.example.com servername=hostname"},
		{"the domain securely does not exist", answer{rrset: dns.RRset{Status: signed, NXDomain: true}}, held, "NOTFOUND "},
		{"a policy that is not enforced", gone, keeps{stsPolicy(mtasts.Testing, mx)}, "NOTFOUND "},
		{"null MX, and no live policy: the store is not asked to fetch one", mxs(unsigned, dns.MX{}), notAsked(t), "NOTFOUND "},
		{"no policy: DANE", mxs(unsigned, dns.MX{Host: evil}), says(mtasts.Result{State: mtasts.Absent}), "OK dane"},
		{"a policy that has not been fetched yet", mxs(unsigned, dns.MX{Host: evil}), says(stsPolicy(mtasts.Enforce, mx)), "OK secure match=mx.example.com servername=hostname"},
		{"the policies are being read", mxs(unsigned, dns.MX{}), loading, "not cached"},
		{"the policies are being read, DANE", mxs(unsigned, dns.MX{Host: evil}), loading, "not cached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answers := map[string]answer{"MX example.com": c.mx}
			maps.Copy(answers, host(mx, tlsa(signed)))
			maps.Copy(answers, host(evil, tlsa(signed)))
			maps.Copy(answers, map[string]answer{"A example.com": denial(unsigned), "AAAA example.com": denial(unsigned)})
			e := policy.Engine{Resolver: &table{t: t, answers: answers}, STS: c.sts}
			f, err := e.Gather(t.Context(), domain, withDANEAndSTS())
			if c.want == "not cached" {
				require.ErrorIs(t, err, dns.ErrNotCached)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, policy.Decide(f, withDANEAndSTS()).Reply.String())
			off := withDANEAndSTS()
			off.MTASTS = false
			f, err = e.Gather(t.Context(), domain, off)
			require.NoError(t, err)
			require.NotEqual(t, policy.SourceMTASTS, policy.Decide(f, off).Source)
		})
	}
}

func TestGatherFromACacheThatLacksSomething(t *testing.T) {
	t.Parallel()
	const mx = "mx.example.com"
	full := func() map[string]answer {
		return map[string]answer{
			"MX example.com": mxs(signed, dns.MX{Host: mx}), "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: denial(signed),
		}
	}
	for missing := range full() {
		answers := full()
		answers[missing] = answer{err: dns.ErrNotCached}
		e := policy.Engine{Resolver: &table{t: t, answers: answers}, STS: says(mtasts.Result{State: mtasts.Absent})}
		f, err := e.Gather(t.Context(), domain, withDANEAndSTS())
		require.ErrorIs(t, err, dns.ErrNotCached, missing)
		require.Equal(t, "TEMP", policy.Decide(f, withDANEAndSTS()).Reply.Status.String(), "what was gathered so far trusts nothing")
	}
	e := policy.Engine{Resolver: &table{t: t, answers: full()}, STS: says(mtasts.Result{Err: dns.ErrNotCached})}
	_, err := e.Gather(t.Context(), domain, withDANEAndSTS())
	require.ErrorIs(t, err, dns.ErrNotCached)
	e.STS = says(mtasts.Result{Err: errors.New("busy")})
	f, err := e.Gather(t.Context(), domain, withDANEAndSTS())
	require.NoError(t, err)
	require.Equal(t, "TEMP the MTA-STS policy of example.com is not known: busy", policy.Decide(f, withDANEAndSTS()).Reply.String())
	e.STS = nil
	f, err = e.Gather(t.Context(), domain, withDANEAndSTS())
	require.NoError(t, err)
	require.Equal(t, "TEMP the MTA-STS policy of example.com is not known: nobody to ask", policy.Decide(f, withDANEAndSTS()).Reply.String(), "no source of policies trusts nothing")
}

// TestASlowBackupHostLeavesTimeForTheRest has the name servers of a backup host say nothing, and then the policy host.
func TestASlowBackupHostLeavesTimeForTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := resolverFunc(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
			switch {
			case q.Type == dns.TypeMX:
				return &dns.RRset{Status: signed, MX: []dns.MX{{Preference: 10, Host: "a.example"}, {Preference: 20, Host: "b.example"}}}, nil
			case q.Name == "b.example":
				<-ctx.Done()
				return nil, &dns.Error{Question: q, Reason: "timed out", Err: ctx.Err()}
			case q.Type == dns.TypeTLSA:
				return &dns.RRset{Status: signed}, nil
			}
			found := addrs("192.0.2.1")
			return &found.rrset, nil
		})
		silent := stsFunc(func(ctx context.Context, domain string) mtasts.Result {
			<-ctx.Done()
			return mtasts.Result{Domain: domain, Err: ctx.Err()}
		})
		budget := func() context.Context {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		e := policy.Engine{Resolver: slow, STS: says(stsPolicy(mtasts.Enforce, "a.example")), Waits: true}
		start := time.Now()
		f, err := e.Gather(budget(), domain, withDANEAndSTS())
		require.NoError(t, err)
		require.Equal(t, "OK secure match=a.example servername=hostname", policy.Decide(f, withDANEAndSTS()).Reply.String())
		require.Less(t, time.Since(start), 10*time.Second)

		e.STS = silent
		f, err = e.Gather(budget(), domain, withDANEAndSTS())
		require.NoError(t, err)
		require.Equal(t, mtasts.Failed, f.STS.State, `"as though the domain has not implemented MTA-STS" (RFC 8461 section 3.3)`)
		require.Equal(t, "OK dane", policy.Decide(f, withDANEAndSTS()).Reply.String())

		over, cancel := context.WithCancel(context.Background())
		cancel()
		f, err = e.Gather(over, domain, withDANEAndSTS())
		require.NoError(t, err)
		require.Equal(t, "TEMP", policy.Decide(f, withDANEAndSTS()).Reply.Status.String(), "over the budget")
	})
}

// TestASlowResolverHidesNoPolicy: where the resolver takes its time for every answer, a policy that is announced is not taken for
// missing because there was no time left to fetch it.
func TestASlowResolverHidesNoPolicy(t *testing.T) {
	t.Parallel()
	for _, status := range []dns.Status{signed, unsigned} {
		for each := 100 * time.Millisecond; each < 5*time.Second; each += 50 * time.Millisecond {
			synctest.Test(t, func(t *testing.T) {
				takes := func(ctx context.Context, n int) error {
					select {
					case <-time.After(time.Duration(n) * each):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				slow := resolverFunc(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
					if err := takes(ctx, 1); err != nil {
						return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: err}
					}
					r := &dns.RRset{Status: status}
					switch q.Type {
					case dns.TypeMX:
						r.MX = []dns.MX{{Preference: 10, Host: "mx.example.com"}}
					case dns.TypeA:
						r.Addrs = addrs("192.0.2.1").rrset.Addrs
					default:
					}
					return r, nil
				})
				questions := 2 // for the record, and for the addresses of the policy host
				if status == unsigned {
					questions = 1 // the record was asked for before
				}
				sts := stsFunc(func(ctx context.Context, domain string) mtasts.Result {
					if err := takes(ctx, questions); err != nil {
						return mtasts.Result{Domain: domain, Err: err}
					}
					return stsPolicy(mtasts.Enforce, "mx.example.com")
				})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				e := policy.Engine{Resolver: slow, STS: sts, Waits: true}
				f, err := e.Gather(ctx, domain, withDANEAndSTS())
				require.NoError(t, err)
				require.Contains(t, []string{"OK", "TEMP"}, policy.Decide(f, withDANEAndSTS()).Reply.Status.String(), "%v each", each)
			})
		}
	}
}

type resolverFunc func(context.Context, dns.Question) (*dns.RRset, error)

func (f resolverFunc) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	return f(ctx, q)
}

// verdicts is a policy.Probes of a table; it notes what it is asked for.
type verdicts struct {
	found map[string]probe.State
	asked []string
}

func (v *verdicts) Verdict(host string) probe.Verdict {
	v.asked = append(v.asked, host)
	return probe.Verdict{State: v.found[host]}
}

func TestGatherRouteByProbe(t *testing.T) {
	t.Parallel()
	const s, u = "smtps-s.example.com", "smtps-u.example.com"
	o := withDANEAndSTS()
	o.Port26.Mode = policy.PortProbe
	answers := map[string]answer{
		"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: s}, dns.MX{Preference: 20, Host: u}, dns.MX{Preference: 30, Host: "starttls-x.example.com"}),
	}
	d := &table{t: t, answers: answers}
	v := &verdicts{found: map[string]probe.State{}}
	e := policy.Engine{Resolver: d, Probes: v, Site: site{}, STS: notAsked(t), Effort: dns.Effort{Untrusted: true}}
	f, err := e.GatherRoute(t.Context(), domain, o)
	require.NoError(t, err)
	require.Equal(t, "NOTFOUND ", policy.Route(f, o).Reply.String(), "closed or unknown: nothing more is looked up")
	require.Equal(t, []string{s, u}, v.asked, "the smtps- hosts, and no other")

	v.found[s] = probe.Open
	for _, h := range []string{s, u, "starttls-x.example.com"} {
		answers["A "+h], answers["AAAA "+h] = insecureAddrs(), denial(unsigned)
	}
	e.STS = says(mtasts.Result{State: mtasts.Absent})
	f, err = e.GatherRoute(t.Context(), domain, o)
	require.NoError(t, err)
	require.Equal(t, "OK smtps26:["+s+"]:26", policy.Route(f, o).Reply.String())
	require.Equal(t, dane.Absent, f.Hosts[0].DANE26.State)
	require.Equal(t, dane.Unknown, f.Hosts[1].DANE26.State, "not needed")
	require.Equal(t, map[dns.Effort]bool{{Untrusted: true}: true}, d.efforts)
	for _, q := range d.asked {
		require.False(t, q.Type == dns.TypeTLSA && slices.Contains([]string{u}, q.Name))
	}
}

// panicking is a resolver that panics over a question of one type.
type panicking struct {
	dns.Resolver
	over dns.Type
}

func (p panicking) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	if q.Type == p.over {
		panic("what a record")
	}
	return p.Resolver.Lookup(ctx, q, e)
}

// What panics side by side with others panics where the caller can recover, and does not end the daemon.
func TestGatherPanicsInTheGoroutineOfItsCaller(t *testing.T) {
	t.Parallel()
	d := &table{t: t, answers: map[string]answer{
		"MX example.com":     mxs(signed, dns.MX{Preference: 10, Host: "a.example.com"}, dns.MX{Preference: 20, Host: "b.example.com"}),
		"A a.example.com":    addrs("192.0.2.1"),
		"A b.example.com":    addrs("192.0.2.2"),
		"AAAA a.example.com": denial(signed),
		"AAAA b.example.com": denial(signed),
	}}
	e := policy.Engine{Resolver: panicking{d, dns.TypeTLSA}, Waits: true}
	defer func() { require.Contains(t, fmt.Sprint(recover()), "what a record") }()
	_, err := e.Gather(t.Context(), policy.Nexthop{Name: "example.com", Port: 25}, policy.Options{DANE: true})
	require.Fail(t, "no panic", err)
}

// TestARouteHasTheRecordAskedForBesideDANE: a route always depends on it.
func TestARouteHasTheRecordAskedForBesideDANE(t *testing.T) {
	t.Parallel()
	const s = "smtps-s.example.com"
	for _, elsewhere := range []bool{true, false} {
		d := &table{t: t, answers: map[string]answer{
			"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: s}),
			"A " + s:         addrs("192.0.2.1"), "AAAA " + s: denial(signed),
			"TLSA _25._tcp." + s: denial(signed), "TLSA _26._tcp." + s: denial(signed),
		}}
		sts := &announcing{dns: d, stsFunc: func(context.Context, string) mtasts.Result { return mtasts.Result{State: mtasts.Absent} }}
		own, want := site{}, []int{3} // MX, A, AAAA
		if !elsewhere {
			own, want = site{addrs: []string{"192.0.2.1"}}, nil
		}
		o := withDANEAndSTS()
		o.Port26.Mode = policy.PortAlways
		_, err := (&policy.Engine{Resolver: d, STS: sts, Site: own, Waits: true}).GatherRoute(t.Context(), domain, o)
		require.NoError(t, err)
		require.Equal(t, want, sts.after)
	}
}
