package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/prefix"
)

// reveal adds the facts of all that are in the set.
func reveal(known *policy.Facts, all policy.Facts, set policy.FactSet) {
	if set.MX {
		known.MX = all.MX
		known.Hosts = nil
		for _, h := range all.Hosts {
			known.Hosts = append(known.Hosts, policy.Host{Name: h.Name, Preference: h.Preference, Class: h.Class})
		}
	}
	if set.STS {
		known.STS = all.STS
	}
	if set.Receiver {
		known.Receiver = all.Receiver
	}
	for i := range all.Hosts {
		if set.DANE&(1<<i) != 0 {
			known.Hosts[i].DANE = all.Hosts[i].DANE
		}
		if set.DANE26&(1<<i) != 0 {
			known.Hosts[i].DANE26 = all.Hosts[i].DANE26
		}
	}
	known.Known.Add(set)
}

// opposite fills in every fact that was not needed, with a value that would change a decision that used it.
func opposite(f policy.Facts, needed policy.FactSet) policy.Facts {
	f.Hosts = slices.Clone(f.Hosts)
	if !needed.STS {
		f.STS = stsPolicy(mtasts.Enforce, "other.example.com")
	}
	f.Relay, f.Validates, f.Receiver = true, true, policy.Receiver{Known: true, Here: true, Why: "not needed"}
	for i := range f.Hosts {
		h := &f.Hosts[i]
		h.DANE26, h.Probe = dane.Result{State: dane.Usable}, probe.Verdict{State: probe.Closed, Cause: "not needed"}
		if !needed.DANE.Has(i) {
			h.DANE = dane.Result{State: dane.Usable}
		}
		if !needed.Addresses.Has(i) {
			h.Addresses = 100
		}
	}
	return f
}

// TestEveryCombinationNeedsWhatItUses decides every combination with nothing known at first. It needs exactly the facts
// in its line of the table of byDANE. The decision is the same as with all facts, and as with other values of the facts
// that were not needed.
func TestEveryCombinationNeedsWhatItUses(t *testing.T) {
	t.Parallel()
	const (
		mxOnly  = "mx"
		sts     = "mx sts"
		danes   = "mx dane"
		both    = "mx dane sts"
		counted = " addresses"
	)
	lines := []struct{ dane, mx, sts, prefix, port, want string }{
		{"*", "bogus", "*", "*", "*", mxOnly},
		// An insecure MX RRset: a promise is enough.
		{"*", "insecure", "unknown", "*", "25", sts},
		{"*", "insecure", "unknown", "all|mixed", "26", sts},
		{"*", "insecure", "*", "all", "*", sts},
		{"*", "insecure", "*", "mixed", "*", sts + counted},
		{"*", "insecure", "enforce|stale", "none", "25", sts},
		{"*", "insecure", "*", "none", "25", both},
		{"*", "insecure", "*", "none", "26", danes},
		// A secure one: DANE is enough where it is complete.
		{"usable+usable|usable+failed|failed+failed", "secure", "*", "all|none", "*", danes},
		{"usable+usable|usable+failed|failed+failed", "secure", "*", "*", "25", danes},
		{"usable+absent|usable+unusable", "secure", "*", "all|mixed", "25", danes},
		{"usable+absent|usable+unusable", "secure", "*", "all", "26", danes},
		{"*", "secure", "*", "none", "26", danes},
		{"usable+usable", "secure", "*", "mixed", "26", danes},
		{"usable+failed|failed+failed|unusable+failed|absent+failed", "secure", "*", "mixed", "26", danes},
		{"unusable+failed|absent+failed", "secure", "*", "*", "*", both},
		{"usable+absent|usable+unusable", "secure", "*", "none", "25", both},
		{"*", "secure", "unknown", "*", "*", both},
		{"*", "secure", "*", "mixed", "*", both + counted},
		{"*", "secure", "*", "*", "*", both},
	}
	for _, c := range combinations() {
		all := c.facts()
		known := policy.Facts{Nexthop: all.Nexthop}
		var used policy.FactSet
		var prefetched []dns.Question
		var d policy.Decision
		for {
			if d = policy.Decide(known, withDANEAndSTS()); d.Need.Required.Empty() {
				break
			}
			r := d.Need.Required
			require.False(t, r.Relay || r.Receiver || r.Probes || r.Validates || r.DANE26 != 0, "%+v: no combination depends on these", c)
			require.False(t, used.MX && r.MX || used.STS && r.STS || used.DANE&r.DANE != 0 || used.Addresses&r.Addresses != 0, "%+v: a fact was needed twice", c)
			used.MX, used.STS, used.DANE, used.Addresses = used.MX || r.MX, used.STS || r.STS, used.DANE|r.DANE, used.Addresses|r.Addresses
			prefetched = append(prefetched, d.Need.Expected...)
			reveal(&known, all, r)
		}
		require.Equal(t, policy.Decide(all, withDANEAndSTS()), d, "%+v", c)
		require.Equal(t, policy.Decide(opposite(known, used), withDANEAndSTS()), d, "%+v: a fact was used that was not needed", c)

		got := []string{}
		for name, is := range map[string]bool{"mx": used.MX, "dane": used.DANE != 0, "sts": used.STS, "addresses": used.Addresses != 0} {
			if is {
				got = append(got, name)
			}
		}
		require.True(t, used.DANE == 0 || used.DANE == 3, "%+v: of all hosts", c)
		found := false
		for _, l := range lines {
			if fits(l.dane, c.dane) && fits(l.mx, c.mx) && fits(l.sts, c.sts) && fits(l.prefix, c.prefix) && fits(l.port, fmt.Sprint(c.port)) {
				require.ElementsMatch(t, strings.Fields(l.want), got, "%+v", c)
				found = true
				break
			}
		}
		require.True(t, found, "no line for %+v", c)

		// Expected questions: the record and the addresses after the MX RRset, and TLSA only if that is secure.
		for _, q := range prefetched {
			switch q.Type {
			case dns.TypeTXT:
				require.Equal(t, "_mta-sts.example.com", q.Name)
				require.Equal(t, "secure", c.mx)
			case dns.TypeTLSA:
				require.Equal(t, "secure", c.mx)
				require.True(t, strings.HasPrefix(q.Name, fmt.Sprintf("_%d._tcp.", c.port)), q.Name)
			case dns.TypeA, dns.TypeAAAA:
				require.Equal(t, "insecure", c.mx)
			default:
				require.Fail(t, "unexpected", "%+v: %+v", c, q)
			}
		}
		if c.mx == "secure" && (c.port == 25 || c.prefix != "none") {
			require.Len(t, prefetched, 3, "%+v: TLSA of both hosts, and the record", c)
		}
	}
}

// TestTLSAIsExpectedOfSignedNamesOnly: "name servers … that mishandle TLSA queries" must not be asked (RFC 7672 section
// 2.2.2). A host at or below a domain with a secure MX RRset is probably signed.
func TestTLSAIsExpectedOfSignedNamesOnly(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"example.com": true, "mx.example.com": true, "a.b.example.com": true,
		"mx.example.net": false, "mx.badexample.com": false, "com": false, `a\.b.example.com`: false,
	} {
		f := by(signed, "10 "+host)
		need := policy.Decide(f, withDANEAndSTS()).Need
		tlsa := 0
		for _, q := range need.Expected {
			if q.Type == dns.TypeTLSA {
				require.Equal(t, "_25._tcp."+host, q.Name)
				tlsa++
			}
		}
		require.Equal(t, want, tlsa == 1, host)
		f.MX.Status = unsigned
		need = policy.Decide(f, withDANEAndSTS()).Need
		for _, q := range need.Expected {
			require.NotEqual(t, dns.TypeTLSA, q.Type, host)
		}
	}
}

// TestTLSAIsExpectedOfHostsThatWereSigned, with an insecure MX RRset too.
func TestTLSAIsExpectedOfHostsThatWereSigned(t *testing.T) {
	t.Parallel()
	for _, status := range []dns.Status{signed, unsigned} {
		f := by(status, "10 mx.provider.example", "20 b.provider.example")
		f.Hosts[1].Signed = true
		need := policy.Decide(f, withDANEAndSTS()).Need
		var tlsa []string
		for _, q := range need.Expected {
			if q.Type == dns.TypeTLSA {
				tlsa = append(tlsa, q.Name)
			}
		}
		require.Equal(t, []string{"_25._tcp.b.provider.example"}, tlsa)
	}
}

// TestNeedOfOtherNexthops has the facts for next hops that no combination has.
func TestNeedOfOtherNexthops(t *testing.T) {
	t.Parallel()
	need := func(f policy.Facts) policy.FactSet {
		n := policy.Decide(f, withDANEAndSTS()).Need
		return n.Required
	}
	require.Equal(t, policy.FactSet{DANE: 1}, need(host("mx.example.com", 25)), "[host] has no MX RRset and no MTA-STS policy")
	h := host("mx.example.com", 25)
	h.Hosts[0].DANE.State = dane.Failed
	require.Equal(t, policy.FactSet{Relay: true}, need(h), "a host without a prefix may be a relay host")
	h = host("smtps-a.example.com", 25)
	h.Hosts[0].DANE.State = dane.Failed
	require.Empty(t, need(h), "a promise counts, whatever Postfix's configuration says")
	null := with1(by(signed), func(f *policy.Facts) { f.MX.Null = true })
	require.Empty(t, need(null), "a signed null MX")
	null.MX.Status = unsigned
	require.Equal(t, policy.FactSet{STS: true}, need(null), "a null MX may be forged, and an MTA-STS policy cannot be")
	gone := with1(by(signed), func(f *policy.Facts) { f.MX.NXDomain = true })
	require.Empty(t, need(gone), "a domain that securely does not exist")
	n := policy.Decide(policy.Facts{Nexthop: domain}, overridden(withDANEAndSTS(), policy.Override{Ignore: true})).Need
	require.Empty(t, n.Required, "the operator has decided")
	o := withDANEAndSTS()
	o.Mode = policy.ModeOff
	n = policy.Decide(policy.Facts{Nexthop: domain}, o).Need
	require.Empty(t, n.Required, "mode off sends no query")
}

// TestNeedOfARoute is asked step by step: nothing is looked up that a fact before it has ruled out.
func TestNeedOfARoute(t *testing.T) {
	t.Parallel()
	o := withDANEAndSTS()
	o.Port26Mode = policy.PortProbe
	all := by(signed, "10 smtps-a.example.com", "20 smtps-b.example.com", "30 mx.example.com")
	all.STS = mtasts.Result{State: mtasts.Absent}
	for i := range all.Hosts {
		all.Hosts[i].DANE.State, all.Hosts[i].DANE26.State = dane.Absent, dane.Absent
	}
	known := policy.Facts{Nexthop: all.Nexthop}
	for _, want := range []policy.FactSet{
		{MX: true}, {Probes: true}, {Receiver: true}, {DANE: 1, DANE26: 1, STS: true}, {},
	} {
		need := policy.Route(known, o).Need
		require.Equal(t, want, need.Required)
		require.Empty(t, need.Expected, "remote senders choose the domains of routes")
		reveal(&known, all, want)
		if want.Probes {
			known.Hosts[0].Probe.State = probe.Open
		}
	}
	require.Equal(t, "OK smtps26:[smtps-a.example.com]:26", routed(known, o))
	require.Equal(t, prefix.SMTPS, known.Hosts[1].Class)
	require.Equal(t, dane.Unknown, known.Hosts[1].DANE26.State, "a closed host needs no DANE")
}

// TestAddressesInFrontOfTheFirstAllowedHost: Postfix tries five addresses by default, of both families together.
func TestAddressesInFrontOfTheFirstAllowedHost(t *testing.T) {
	t.Parallel()
	in := func(f policy.Facts, addresses ...int) policy.Facts {
		for i, n := range addresses {
			f.Hosts[i].Addresses = n
		}
		f.STS.State = mtasts.Absent
		for i := range f.Hosts {
			f.Hosts[i].DANE.State = dane.Absent
		}
		return f
	}
	const s = "starttls-z.example.com"
	enforced := func(f policy.Facts) policy.Facts {
		f.STS = stsPolicy(mtasts.Enforce, "z.example.com")
		return f
	}
	usable := func(f policy.Facts, i int) policy.Facts {
		f.Hosts[i].DANE.State = dane.Usable
		return f
	}
	for _, c := range []struct {
		name  string
		facts policy.Facts
		want  string
	}{
		{"five hosts of one family", in(by(unsigned, "1 a", "2 b", "3 c", "4 d", "5 e", "6 "+s), 1, 1, 1, 1, 1, 1), "5 addresses come before " + s},
		{"three dual-stack hosts", in(by(signed, "1 a", "2 b", "3 c", "6 "+s), 2, 2, 2, 2), "6 addresses come before " + s},
		{"one host with many addresses", in(by(signed, "1 a", "6 "+s), 8, 1), "8 addresses come before " + s},
		{"two dual-stack hosts: the third is tried", in(by(signed, "1 a", "2 b", "6 "+s), 2, 2, 2), ""},
		{"hosts of the same preference may come after it", in(by(signed, "6 a", "6 b", "6 c", "6 "+s), 2, 2, 2, 2), ""},
		{"hosts that the policy allows come first", in(by(signed, "1 "+s, "2 a", "3 b", "4 c", "5 starttls-y.example.com"), 1, 2, 2, 2, 1), ""},
		{"MTA-STS", enforced(in(by(unsigned, "1 a.example.com", "2 b.example.com", "3 z.example.com"), 4, 4, 1)), "8 addresses come before z.example.com"},
		{"DANE", usable(in(by(signed, "1 starttls-a.example.com", "2 z.example.com"), 5, 1), 1), "5 addresses come before z.example.com"},
	} {
		d := policy.Decide(c.facts, withDANEAndSTS())
		require.True(t, d.Need.Required.Empty(), c.name)
		require.Equal(t, policy.Apply, d.Verdict, c.name)
		why := strings.Join(d.Why, "\n")
		if c.want == "" {
			require.NotContains(t, why, "smtp_mx_address_limit", c.name)
			continue
		}
		require.Contains(t, why, c.want, c.name)
		require.True(t, strings.HasPrefix(c.want, fmt.Sprint(d.InFront)+" "), c.name)
		require.Contains(t, why, "set smtp_mx_address_limit = 0")
	}
}

// A domain with many MX hosts causes early questions about three of them.
func TestExpectedQuestionsAreBounded(t *testing.T) {
	t.Parallel()
	for _, status := range []dns.Status{signed, unsigned} {
		hosts := map[string]bool{}
		need := policy.Decide(by(status, "1 a.example.com", "2 b.example.com", "3 c.example.com", "4 d.example.com", "5 e.example.com"), withDANEAndSTS()).Need
		for _, q := range need.Expected {
			if q.Type != dns.TypeTXT {
				hosts[strings.TrimPrefix(q.Name, "_25._tcp.")] = true
			}
		}
		require.Equal(t, map[string]bool{"a.example.com": true, "b.example.com": true, "c.example.com": true}, hosts)
	}
}

// If the policy store had no answer but an error or a reason, it is not asked again: the mail waits.
func TestPolicyThatCouldNotBeFoundIsNotNeededAgain(t *testing.T) {
	t.Parallel()
	for _, sts := range []mtasts.Result{{Why: "no answer in time"}, {Err: errors.New("no answer in time")}} {
		f := by(unsigned, "10 mx.example.com")
		f.STS, f.Known.STS = sts, true
		d := policy.Decide(f, with(func(o *policy.Options) { o.MTASTS = true }))
		require.True(t, d.Need.Required.Empty())
		require.Equal(t, policy.ReasonSTSUnknown, d.Reason)
		require.Contains(t, d.Failure, "no answer in time")
	}
}

// No address is looked up for a name that is not a host name.
func TestNoQuestionAboutAnInvalidHostName(t *testing.T) {
	t.Parallel()
	need := policy.Decide(by(unsigned, "10 a b.example.com", "20 mx.example.com"), withDANEAndSTS()).Need
	for _, q := range need.Expected {
		require.NotContains(t, q.Name, " ")
	}
	require.NotEmpty(t, need.Expected)
}
