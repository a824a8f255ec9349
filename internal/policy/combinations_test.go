package policy_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/resolver"
)

func update() bool { return *updateFlag }

var updateFlag = flag.Bool("update", false, "write the golden files")

// combination is one of all the ways in which the three mechanisms can meet.
type combination struct {
	dane, mx, sts, prefix string
	port                  uint16
}

// facts returns the facts of example.com: its first host has TLSA records where only some have, and does not carry
// the prefix where the set is mixed.
func (c combination) facts() policy.Facts {
	names := map[string][2]string{
		"all":   {"smtps-a.example.com", "smtps-b.example.com"},
		"mixed": {"mx-a.example.com", "smtps-b.example.com"},
		"none":  {"mx-a.example.com", "mx-b.example.com"},
	}[c.prefix]
	status := map[string]resolver.Status{"secure": signed, "insecure": unsigned}[c.mx]
	f := on(c.port, by(status, "10 "+names[0], "20 "+names[1]))
	states := map[string][2]dane.State{
		"full": {dane.Usable, dane.Usable}, "partial": {dane.Usable, dane.Absent}, "unusable": {dane.Unusable, dane.Unusable},
		"failing": {dane.Absent, dane.Failed}, "none": {dane.Absent, dane.Absent},
	}[c.dane]
	for i := range f.Hosts {
		f.Hosts[i].DANE = dane.Result{State: states[i]}
	}
	f.Hosts[1].DANE.Err = map[bool]error{true: errors.New("SERVFAIL")}[c.dane == "failing"]
	f.STS = map[string]mtasts.Result{
		"enforce": stsPolicy(mtasts.Enforce, "*.example.com"),
		"testing": stsPolicy(mtasts.Testing, "*.example.com"),
		"none":    {Domain: "example.com", State: mtasts.Absent},
		"failing": {Domain: "example.com", State: mtasts.Failed, Failure: mtasts.FetchError, Why: "HTTP status 500"},
		"stale":   stale(stsPolicy(mtasts.Enforce, "*.example.com")),
	}[c.sts]
	if c.mx == "bogus" {
		f = on(c.port, failed("SERVFAIL (DNSSEC Bogus)"))
	}
	return f
}

func stsPolicy(m mtasts.Mode, mx ...string) mtasts.Result {
	raw := []string{"version: STSv1", "mode: " + m.String()}
	for _, pattern := range mx {
		raw = append(raw, "mx: "+pattern)
	}
	return mtasts.Result{
		Domain: "example.com", State: mtasts.Found, ID: "20261101",
		Policy: mtasts.Policy{Mode: m, MaxAge: time.Hour, MX: mx, Raw: append(raw, "max_age: 3600")},
	}
}

func stale(r mtasts.Result) mtasts.Result {
	r.Stale, r.Failure, r.Why = true, mtasts.FetchError, "HTTP status 500"
	return r
}

func withDANEAndSTS() policy.Options {
	return with(func(o *policy.Options) { o.DANE, o.MTASTS = true, true })
}

// TestDecideCombinations decides every combination. The lines below are asked in order, and the first that fits says
// what must come out, and why; "*" fits everything.
func TestDecideCombinations(t *testing.T) {
	t.Parallel()
	const (
		all   = "OK secure match=smtps-a.example.com:smtps-b.example.com servername=hostname"
		some  = "OK secure match=smtps-b.example.com servername=hostname"
		named = "OK secure match=mx-a.example.com:mx-b.example.com servername=hostname"
	)
	lines := []struct {
		dane, mx, sts, prefix, port string
		want, why                   string
	}{
		{"*", "bogus", "*", "*", "*", "TEMP MX lookup for example.com failed: SERVFAIL (DNSSEC Bogus)",
			`RFC 7672 2.1.2: "any [such] lookup error MUST … defer": a bogus answer must not hide a promise`},
		// Port 26: smtps- hosts only, where there are any.
		{"failing", "*", "*", "*", "26", "TEMP TLSA lookup for port 26 of second failed: SERVFAIL",
			`RFC 7672 2.1.2: a TLSA lookup that fails is no denial; RFC 8461 2: "MUST NOT allow MTA-STS Policy validation to override a failing DANE validation"`},
		{"failing", "*", "*", "*", "25", "TEMP TLSA lookup for port 25 of second failed: SERVFAIL",
			`RFC 7672 2.1.2, RFC 8461 2: as above`},
		{"full", "secure", "*", "*", "*", "OK dane-only",
			`RFC 7672 2.2: "usable TLSA records … the SMTP client MUST authenticate"; DANE first, RFC 8461 2`},
		{"full", "insecure", "*", "*", "*", "OK dane",
			`RFC 7672 2.1.1, 2.2.1: with an insecure MX RRset DANE protects the hosts that it names; dane-only would defer for ever`},
		{"unusable", "*", "*", "*", "*", "OK dane",
			`RFC 7672 2.2: "if all … are unusable … the SMTP client MUST use TLS … authentication is not required"`},
		// Only the first host has TLSA records.
		{"partial", "*", "*", "all", "25", all, "under dane the prefixed host without TLSA would be treated as may"},
		{"partial", "*", "*", "all", "26", all, "the same on port 26"},
		{"partial", "*", "*", "mixed", "25", some, "the host without TLSA carries the prefix: the prefixed hosts decide"},
		{"partial", "*", "*", "mixed", "26", some, "on port 26 only the smtps- host counts, and it has no TLSA"},
		{"partial", "*", "*", "none", "*", "OK dane", "no prefix is at stake: the hosts that have TLSA are held to it"},
		// No DANE. The MTA-STS policy of these lines allows every host, so it narrows nothing.
		{"none", "*", "*", "all", "*", all, "every host carries a prefix"},
		{"none", "*", "*", "mixed", "*", some, "mixed set: only the prefixed hosts"},
		{"none", "*", "enforce", "none", "25", named, `RFC 8461 4.1, 5: "enforce": the MX host must match and its certificate must verify`},
		{"none", "*", "stale", "none", "25", named, `RFC 8461 3.3: "if a valid policy is cached … MUST apply it": a failed refresh ends nothing`},
		{"none", "*", "testing", "none", "25", "NOTFOUND ", `RFC 8461 5: "testing": "Senders … send a report … messages may be delivered as though there were no MTA-STS validation failure"`},
		{"none", "*", "failing", "none", "25", "NOTFOUND ", `RFC 8461 3.3: "Senders MUST continue with delivery as though the domain has not implemented MTA-STS"`},
		{"none", "*", "none", "none", "*", "NOTFOUND ", "nothing promised"},
		{"none", "*", "*", "none", "26", "NOTFOUND ", "a domain is spoken to on port 26 by its smtps- hosts only"},
	}
	var golden bytes.Buffer
	n := 0
	for _, d := range []string{"full", "partial", "unusable", "failing", "none"} {
		for _, mx := range []string{"secure", "insecure", "bogus"} {
			for _, sts := range []string{"enforce", "testing", "none", "failing", "stale"} {
				for _, p := range []string{"all", "mixed", "none"} {
					for _, port := range []uint16{25, 26} {
						c := combination{d, mx, sts, p, port}
						f := c.facts()
						got := policy.Decide(f, withDANEAndSTS())
						found := false
						for _, l := range lines {
							if !fits(l.dane, d) || !fits(l.mx, mx) || !fits(l.sts, sts) || !fits(l.prefix, p) || !fits(l.port, fmt.Sprint(port)) {
								continue
							}
							want := l.want
							if len(f.Hosts) > 0 {
								want = strings.ReplaceAll(want, "second", f.Hosts[1].Name)
							}
							require.Equal(t, want, got.Reply.String(), "%+v: %s", c, l.why)
							found = true
							break
						}
						require.True(t, found, "no line for %+v", c)
						require.Equal(t, p == "none" && got.Source == policy.SourceMTASTS, got.TLSRPT != "", "TLSRPT for genuine MTA-STS only: %+v", c)
						_, _ = fmt.Fprintf(&golden, "dane=%-8s mx=%-8s sts=%-7s prefix=%-5s port=%d  %-7s %s\n", d, mx, sts, p, port, got.Source, got.Reply)
						n++
					}
				}
			}
		}
	}
	require.Equal(t, 450, n)
	const path = "testdata/combinations.golden"
	if update() {
		require.NoError(t, os.WriteFile(path, golden.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), golden.String(), "run with -update and read the difference")
}

func fits(pattern, value string) bool { return pattern == "*" || pattern == value }

// TestMTASTS is the part of the specification that is about MTA-STS.
func TestMTASTS(t *testing.T) {
	t.Parallel()
	const none = "NOTFOUND "
	sts := func(r mtasts.Result, mx ...string) policy.Facts {
		f := by(signed, mx...)
		for i := range f.Hosts {
			f.Hosts[i].DANE.State = dane.Absent
		}
		f.STS = r
		return f
	}
	for _, c := range []struct {
		name   string
		facts  policy.Facts
		want   string
		tlsrpt string
	}{
		{"the hosts that the policy allows, not its patterns", sts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 mx.example.com", "20 mx.example.net"),
			"OK secure match=mx.example.com servername=hostname",
			" policy_type=sts policy_domain=example.com mx_host_pattern=*.example.com { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = mx: *.example.com } { policy_string = max_age: 3600 }"},
		{`"*.example.com" allows one label only`, sts(stsPolicy(mtasts.Enforce, "*.example.com", "mx.example.net"), "10 a.b.example.com"),
			"OK secure match=mx.example.net servername=hostname", "*"},
		{"no host is allowed: what stands in the policy, so that nothing is delivered", sts(stsPolicy(mtasts.Enforce, "mail.example.com"), "10 mx.example.net"),
			"OK secure match=mail.example.com servername=hostname",
			" policy_type=sts policy_domain=example.com mx_host_pattern=mail.example.com { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = mx: mail.example.com } { policy_string = max_age: 3600 } policy_failure=validation-failure"},
		{"no host is allowed, and Postfix's pattern lets none in", sts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 mx.example.net"),
			"OK secure match=.example.com servername=hostname", "*"},
		{"no host is allowed, and Postfix's pattern would let one in", sts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 a.b.example.com"),
			"TEMP no MX host of example.com is allowed by its MTA-STS policy", ""},
		{"no line that would confuse Postfix reaches it", sts(with2(stsPolicy(mtasts.Enforce, "mx.example.com"), "x: }", "y: ü", "z: a=b c, d"), "10 mx.example.com"),
			"OK secure match=mx.example.com servername=hostname",
			" policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com { policy_string = z: a=b c, d }"},
		{"mode none", sts(stsPolicy(mtasts.None), "10 mx.example.com"), none, ""},
		{"nothing is known: TEMP", sts(mtasts.Result{Err: errors.New("busy")}, "10 mx.example.com"), "TEMP the MTA-STS policy of example.com is not known: busy", ""},
		{"nothing is known, with a prefix: TEMP", sts(mtasts.Result{}, "10 starttls-a.example.com"), "TEMP the MTA-STS policy of example.com is not known: no facts were gathered", ""},
		{"the policy narrows the prefixed hosts", sts(stsPolicy(mtasts.Enforce, "starttls-a.example.com"), "10 starttls-a.example.com", "20 starttls-b.example.com"),
			"OK secure match=starttls-a.example.com servername=hostname", ""},
		{"a testing policy narrows nothing", sts(stsPolicy(mtasts.Testing, "starttls-a.example.com"), "10 starttls-a.example.com", "20 starttls-b.example.com"),
			"OK secure match=starttls-a.example.com:starttls-b.example.com servername=hostname", ""},
		{"conflict: the policy alone decides", sts(stsPolicy(mtasts.Enforce, "mx.example.com"), "10 mx.example.com", "20 starttls-b.example.com"),
			"OK secure match=mx.example.com servername=hostname", "*"},
		{"conflict on port 26: TEMP", on(26, sts(stsPolicy(mtasts.Enforce, "mx.example.com"), "10 mx.example.com", "20 smtps-b.example.com")),
			"TEMP the MTA-STS policy of example.com allows none of its smtps- hosts", ""},
		{"an implicit MX is held to the policy", with1(sts(stsPolicy(mtasts.Enforce, "example.com"), "0 example.com"), func(f *policy.Facts) { f.MX.Implicit = true }),
			"OK secure match=example.com servername=hostname", "*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := policy.Decide(c.facts, withDANEAndSTS())
			require.Equal(t, c.want, d.Reply.String())
			require.NotEmpty(t, d.Why)
			if c.tlsrpt == "*" {
				require.NotEmpty(t, d.TLSRPT)
			} else {
				require.Equal(t, c.tlsrpt, d.TLSRPT)
			}
			off := policy.Decide(c.facts, with(func(o *policy.Options) { o.DANE = true }))
			require.NotEqual(t, policy.SourceMTASTS, off.Source, "mta_sts = false")
		})
	}
}

func with2(r mtasts.Result, raw ...string) mtasts.Result {
	r.Policy.Raw = raw
	return r
}

// TestDANE is the part of the specification that is about hosts which differ.
func TestDANE(t *testing.T) {
	t.Parallel()
	hosts := func(status resolver.Status, mx ...string) policy.Facts {
		f := by(status)
		for _, m := range mx {
			fields := strings.Fields(m)
			one := by(status, fields[0]+" "+fields[1])
			h := one.Hosts[0]
			h.DANE = map[string]dane.Result{
				"usable": {State: dane.Usable}, "unusable": {State: dane.Unusable}, "absent": {State: dane.Absent},
				"nowhere": {State: dane.Unreachable}, "dead": {State: dane.Unreachable, Err: &resolver.Error{Reason: "SERVFAIL"}},
				"failed": {State: dane.Failed, Err: &resolver.Error{Reason: "timed out"}}, "unknown": {},
			}[fields[2]]
			f.Hosts = append(f.Hosts, h)
		}
		f.STS.State = mtasts.Absent
		return f
	}
	for _, c := range []struct {
		name  string
		facts policy.Facts
		want  string
	}{
		{"a host without an address is skipped", hosts(signed, "10 a.example usable", "20 b.example nowhere"), "OK dane-only"},
		{"no host has an address: nothing to say", hosts(signed, "10 a.example nowhere"), "NOTFOUND "},
		{"a failing backup host defers nothing", hosts(signed, "10 a.example usable", "20 b.example dead"), "OK dane-only"},
		{"a failing backup host that carries a prefix: nobody is to connect to it without TLSA", hosts(signed, "10 a.example usable", "20 starttls-b.example dead"), "OK dane-only"},
		{"the same where the MX RRset is not signed: dane would let it be stripped", hosts(unsigned, "10 a.example usable", "20 starttls-b.example dead"), "OK secure match=starttls-b.example servername=hostname"},
		{"the same where the records of the other cannot be used", hosts(signed, "10 a.example unusable", "20 starttls-b.example dead"), "OK secure match=starttls-b.example servername=hostname"},
		{"a host with a prefix that has no address promises nothing", hosts(unsigned, "10 a.example usable", "20 starttls-b.example nowhere"), "OK dane"},
		{"a failing host beside a good one of equal preference defers nothing", hosts(signed, "10 a.example dead", "10 b.example absent"), "NOTFOUND "},
		{"a failing best host defers: DANE may apply to it", hosts(signed, "10 a.example dead", "20 b.example usable"), "TEMP address lookup for a.example failed: SERVFAIL"},
		{"a better host that cannot be reached excuses nobody", hosts(signed, "10 a.example nowhere", "20 b.example dead"), "TEMP address lookup for b.example failed: SERVFAIL"},
		{"a TLSA failure at a reachable backup host defers", hosts(signed, "10 a.example usable", "20 b.example failed"), "TEMP TLSA lookup for port 25 of b.example failed: timed out"},
		{"nothing is known about a host: TEMP", hosts(signed, "10 a.example usable", "20 b.example unknown"), "TEMP no facts were gathered about DANE for b.example"},
		{"usable and unusable: dane", hosts(signed, "10 a.example usable", "20 b.example unusable"), "OK dane"},
		{"some hosts only", hosts(signed, "10 a.example usable", "20 b.example absent"), "OK dane"},
		{"some hosts only, and a prefixed one has TLSA", hosts(signed, "10 starttls-a.example usable", "20 b.example absent"), "OK dane"},
		{"some hosts only, and a prefixed one has none", hosts(signed, "10 a.example usable", "20 starttls-b.example absent"), "OK secure match=starttls-b.example servername=hostname"},
		{"prefix and DANE: DANE", hosts(signed, "10 starttls-a.example usable"), "OK dane-only"},
		{"hosts beyond the bound have nothing", rest(hosts(signed, "10 a.example usable"), 5), "OK dane"},
		{"port 26: only the smtps- hosts count", on(26, hosts(signed, "10 smtps-a.example usable", "20 b.example absent")), "OK dane-only"},
		{"port 26: without smtps- hosts every host counts", on(26, hosts(signed, "10 a.example usable", "20 b.example usable")), "OK dane-only"},
		{"port 26, insecure MX", on(26, hosts(unsigned, "10 smtps-a.example usable")), "OK dane"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, policy.Decide(c.facts, withDANEAndSTS()).Reply.String())
			if strings.Contains(c.want, "dane") {
				o := withDANEAndSTS()
				o.DANE = false
				require.NotEqual(t, policy.SourceDANE, policy.Decide(c.facts, o).Source, "dane = false")
			}
		})
	}
	ignoring := withDANEAndSTS()
	ignoring.MixedMX = policy.Ignore
	require.Equal(t, "OK dane", policy.Decide(hosts(signed, "10 a.example usable", "20 starttls-b.example absent"), ignoring).Reply.String(),
		"where the prefixes do not count, DANE for the hosts that have it")

	single := host("mx.example.com", 25)
	single.Hosts = []policy.Host{{Name: "mx.example.com", DANE: dane.Result{State: dane.Usable}}}
	require.Equal(t, "OK dane-only", policy.Decide(single, withDANEAndSTS()).Reply.String(), "[host] has no MX RRset that could be insecure")
}
