package policy_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
)

func update() bool { return *updateFlag }

var updateFlag = flag.Bool("update", false, "write the golden files")

// combination is one of all the ways in which the three mechanisms can meet.
type combination struct {
	dane, mx, sts, prefix string
	port                  uint16
}

// facts returns the facts of example.com. In a mixed set only the second host carries the prefix.
func (c combination) facts() policy.Facts {
	names := map[string][2]string{
		"all":   {"smtps-a.example.com", "smtps-b.example.com"},
		"mixed": {"mx-a.example.com", "smtps-b.example.com"},
		"none":  {"mx-a.example.com", "mx-b.example.com"},
	}[c.prefix]
	status := map[string]dns.Status{"secure": signed, "insecure": unsigned}[c.mx]
	f := on(c.port, by(status, "10 "+names[0], "20 "+names[1]))
	f.Hosts[0].DANE, f.Hosts[1].DANE = c.hosts()
	f.STS = map[string]mtasts.Result{
		"enforce": stsPolicy(mtasts.Enforce, "*.example.com"),
		"testing": stsPolicy(mtasts.Testing, "*.example.com"),
		"none":    {Domain: "example.com", State: mtasts.Absent},
		"failing": {Domain: "example.com", State: mtasts.Failed, Failure: mtasts.FetchError, Why: "HTTP status 500"},
		"stale":   stale(stsPolicy(mtasts.Enforce, "*.example.com")),
		"unknown": {Domain: "example.com", Err: errors.New("busy")},
	}[c.sts]
	f.Known.STS = true
	if c.mx == "bogus" {
		f = on(c.port, failed("SERVFAIL (DNSSEC Bogus)"))
	}
	return f
}

// hosts returns the results of DANE for the two hosts: "usable+failed", for example.
func (c combination) hosts() (first, second dane.Result) {
	result := func(state string) dane.Result {
		r := dane.Result{State: map[string]dane.State{
			"usable": dane.Usable, "unusable": dane.Unusable, "absent": dane.Absent, "failed": dane.Failed,
		}[state]}
		if r.State == dane.Failed {
			r.Err = errors.New("SERVFAIL")
		}
		return r
	}
	one, two, _ := strings.Cut(c.dane, "+")
	return result(one), result(two)
}

func stsPolicy(m mtasts.Mode, mx ...string) mtasts.Result {
	raw := []string{"version: STSv1", "mode: " + string(m)}
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

// TestDecideCombinations decides every combination. The first matching line below has the answer and the reason for it.
// "*" fits every value, and "a|b" fits two.
func TestDecideCombinations(t *testing.T) {
	t.Parallel()
	const (
		all    = "OK secure match=smtps-a.example.com:smtps-b.example.com servername=hostname"
		some   = "OK secure match=smtps-b.example.com servername=hostname"
		named  = "OK secure match=mx-a.example.com:mx-b.example.com servername=hostname"
		failed = "TEMP DANE lookup for port %s of second failed: SERVFAIL"
		notYet = "TEMP the MTA-STS policy of example.com is not known: busy"
		none   = "NOTFOUND "

		partial = "usable+absent|usable+unusable"
		noPKIX  = `RFC 8461 2: "MUST NOT allow MTA-STS Policy validation to override a failing DANE validation"`
	)
	lines := []struct {
		dane, mx, sts, prefix, port string
		want, why                   string
	}{
		{"*", "bogus", "*", "*", "*", "TEMP MX lookup for example.com failed: SERVFAIL (DNSSEC Bogus)",
			`RFC 7672 2.1.2: "any [such] lookup error MUST … defer": a bogus answer must not hide a promise`},

		// An insecure MX RRset with a promise: an attacker who forges it can add TLSA records of their own.
		{"*", "insecure", "unknown", "*", "25", notYet, "RFC 8461 3.1: the policy is always looked for, because it authenticates the MX names"},
		{"*", "insecure", "unknown", "all|mixed", "26", notYet, "the policy can narrow the prefixed hosts"},
		{"*", "insecure", "*", "all", "*", all, "RFC 7672 2.2.1: DANE is not required with an insecure MX RRset; dane names no host"},
		{"*", "insecure", "*", "mixed", "*", some, "the same for a mixed set"},
		{"*", "insecure", "enforce|stale", "none", "25", named, "the same for an enforced MTA-STS policy: RFC 8461 4.1"},
		// Without a promise.
		{"absent+absent", "insecure", "*", "none", "*", none, "nothing is promised"},
		{"failed+failed", "insecure", "*", "none", "*", failed, "RFC 7672 2.1.2: every server is unreachable"},
		{"*", "insecure", "*", "none", "*", "OK dane",
			`RFC 7672 2.2.1: "clients MAY choose to use DANE TLS" with an insecure MX RRset; dane-only would defer indefinitely`},

		// A secure MX RRset. On port 26 of a mixed set only the second host counts, which carries smtps-.
		{"usable+usable", "secure", "*", "*", "*", "OK dane-only",
			`RFC 7672 2.2: "the SMTP client MUST authenticate"; DANE comes first, RFC 8461 2`},
		{"usable+failed|unusable+failed|absent+failed|failed+failed", "secure", "*", "mixed", "26", failed, "RFC 7672 2.1.2: the only host of this port failed"},
		{"*", "secure", "unknown", "mixed", "26", notYet, "the policy can narrow the prefixed hosts"},
		{"*", "secure", "*", "mixed", "26", some, "unusable records are weaker than the promise of a valid certificate"},
		{"usable+failed", "secure", "*", "*", "*", "OK dane-only", `RFC 7672 2.1.2: "MUST treat that server as unreachable", and only that one`},
		{"failed+failed", "secure", "*", "*", "*", failed, "RFC 7672 2.1.2: every server is unreachable"},
		{partial, "secure", "*", "all|mixed", "*", "OK dane-only", noPKIX + "; dane would use the other host without authentication"},
		{partial, "secure", "enforce|stale", "none", "25", "OK dane-only", noPKIX},
		{partial, "secure", "unknown", "none", "25", "OK dane-only", "an unknown policy counts as a promise: dane-only is the stronger answer"},
		{partial, "secure", "*", "none", "*", "OK dane", "RFC 7672 2.2: each host must match its own records"},
		// None usable.
		{"*", "secure", "unknown", "none", "25", notYet, "the policy may ask for a valid certificate, which is more than unusable records do"},
		{"*", "secure", "unknown", "all|mixed", "*", notYet, "the policy can narrow the prefixed hosts"},
		{"unusable+failed|absent+failed", "secure", "*", "all|mixed", "*", failed, noPKIX + ": the host that failed may have TLSA records, and match= names it"},
		{"unusable+failed|absent+failed", "secure", "enforce|stale", "none", "25", failed, noPKIX + ": the same"},
		{"unusable+failed|absent+failed", "secure", "*", "none", "*", "OK dane", "RFC 7672 2.1.2: Postfix applies DANE to each host that it reaches"},
		{"unusable+unusable|unusable+absent|absent+absent", "secure", "*", "all", "*", all, "RFC 7672 2.2: unusable records require TLS without authentication, and the promise requires more"},
		{"unusable+unusable|unusable+absent|absent+absent", "secure", "*", "mixed", "25", some, "the same for a mixed set"},
		{"unusable+unusable|unusable+absent|absent+absent", "secure", "enforce|stale", "none", "25", named,
			`RFC 8461 4.1, 5: "enforce"; 3.3: "if a valid policy is cached … MUST apply it": a failed refresh ends nothing`},
		{"unusable+unusable|unusable+absent", "secure", "*", "none", "*", "OK dane",
			`RFC 7672 2.2: "if all … are unusable … the SMTP client MUST use TLS … authentication is not required"`},
		{"absent+absent", "secure", "testing", "none", "25", none, `RFC 8461 5: "testing": "messages may be delivered as though there were no MTA-STS validation failure"`},
		{"absent+absent", "secure", "failing", "none", "25", none, `RFC 8461 3.3: "Senders MUST continue with delivery as though the domain has not implemented MTA-STS"`},
		{"absent+absent", "secure", "*", "none", "*", none, "nothing is promised for this port"},
	}
	var golden bytes.Buffer
	n := 0
	for _, c := range combinations() {
		f := c.facts()
		got := policy.Decide(f, withDANEAndSTS())
		require.True(t, got.Need.Required.Empty(), "%+v", c)
		reply := got.Reply(withDANEAndSTS(), false)
		found := false
		for _, l := range lines {
			port := fmt.Sprint(c.port)
			if !fits(l.dane, c.dane) || !fits(l.mx, c.mx) || !fits(l.sts, c.sts) || !fits(l.prefix, c.prefix) || !fits(l.port, port) {
				continue
			}
			want := l.want
			if strings.Contains(want, "%s") {
				want = strings.ReplaceAll(fmt.Sprintf(want, port), "second", f.Hosts[1].Name)
			}
			require.Equal(t, want, reply.String(), "%+v: %s", c, l.why)
			found = true
			break
		}
		require.True(t, found, "no line for %+v", c)
		genuine := got.Source() == policy.SourceMTASTS || got.Source() == policy.SourcePrefix && (c.sts == "enforce" || c.sts == "stale")
		require.Equal(t, genuine, got.TLS.STS != nil, "attributes for genuine MTA-STS only: %+v", c)
		if genuine && got.Source() == policy.SourcePrefix {
			require.Equal(t, got.TLS.Match, got.TLS.STS.Policy.MX, "Postfix must not connect to other hosts: %+v", c)
		}
		_, _ = fmt.Fprintf(&golden, "dane=%-17s mx=%-8s sts=%-7s prefix=%-5s port=%d  %-7s %s\n", c.dane, c.mx, c.sts, c.prefix, c.port, got.Source(), reply)
		n++
	}
	require.Equal(t, 1080, n)
	const path = "testdata/combinations.golden"
	if update() {
		require.NoError(t, os.WriteFile(path, golden.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), golden.String(), "run with -update and read the difference")
}

// combinations returns every combination.
func combinations() []combination {
	var all []combination
	for _, d := range []string{
		"usable+usable", "usable+absent", "usable+unusable", "usable+failed", "unusable+unusable", "unusable+absent",
		"unusable+failed", "absent+failed", "failed+failed", "absent+absent",
	} {
		for _, mx := range []string{"secure", "insecure", "bogus"} {
			for _, sts := range []string{"enforce", "testing", "none", "failing", "stale", "unknown"} {
				for _, p := range []string{"all", "mixed", "none"} {
					for _, port := range []uint16{25, 26} {
						all = append(all, combination{d, mx, sts, p, port})
					}
				}
			}
		}
	}
	return all
}

func fits(pattern, value string) bool {
	return pattern == "*" || slices.Contains(strings.Split(pattern, "|"), value)
}

// TestMTASTS is the part of the specification that is about MTA-STS.
func TestMTASTS(t *testing.T) {
	t.Parallel()
	const none = "NOTFOUND "
	sts := func(r mtasts.Result, mx ...string) policy.Facts {
		f := by(signed, mx...)
		for i := range f.Hosts {
			f.Hosts[i].DANE.State = dane.Absent
		}
		f.STS, f.Known.STS = r, r.Err != nil
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
		{"no host is allowed: the names in the policy, so that nothing is delivered", sts(stsPolicy(mtasts.Enforce, "mail.example.com"), "10 mx.example.net"),
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
		{"nothing is known, with a prefix: TEMP", sts(mtasts.Result{}, "10 starttls-a.example.com"), "TEMP internal error: a required fact is missing", ""},
		{"the policy narrows the prefixed hosts", sts(stsPolicy(mtasts.Enforce, "starttls-a.example.com"), "10 starttls-a.example.com", "20 starttls-b.example.com"),
			"OK secure match=starttls-a.example.com servername=hostname",
			" policy_type=sts policy_domain=example.com mx_host_pattern=starttls-a.example.com { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = mx: starttls-a.example.com } { policy_string = max_age: 3600 }"},
		{"a wildcard policy: only the prefixed hosts that it allows", sts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 mx.example.com", "20 starttls-b.example.com", "20 starttls-a.example.com", "30 starttls-c.example.net"),
			"OK secure match=starttls-a.example.com:starttls-b.example.com servername=hostname",
			" policy_type=sts policy_domain=example.com mx_host_pattern=starttls-a.example.com mx_host_pattern=starttls-b.example.com { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = mx: *.example.com } { policy_string = max_age: 3600 }"},
		{"on port 26: only the smtps- hosts that the policy allows", on(26, sts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 starttls-a.example.com", "20 smtps-b.example.com")),
			"OK secure match=smtps-b.example.com servername=hostname",
			" policy_type=sts policy_domain=example.com mx_host_pattern=smtps-b.example.com { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = mx: *.example.com } { policy_string = max_age: 3600 }"},
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
			plain, report := d.Reply(withDANEAndSTS(), false), d.Reply(withDANEAndSTS(), true)
			require.Equal(t, c.want, plain.String())
			require.NotEmpty(t, d.Why)
			if c.tlsrpt == "*" {
				require.NotEqual(t, plain, report)
			} else {
				require.Equal(t, plain.Text+c.tlsrpt, report.Text)
			}
			off := policy.Decide(c.facts, with(func(o *policy.Options) { o.DANE = true }))
			require.NotEqual(t, policy.SourceMTASTS, off.Source(), "mta_sts = false")
		})
	}
}

func with2(r mtasts.Result, raw ...string) mtasts.Result {
	r.Policy.Raw = raw
	return r
}

// TestDANE is the part of the specification about hosts that differ.
func TestDANE(t *testing.T) {
	t.Parallel()
	hosts := func(status dns.Status, mx ...string) policy.Facts {
		f := by(status)
		for _, m := range mx {
			fields := strings.Fields(m)
			one := by(status, fields[0]+" "+fields[1])
			h := one.Hosts[0]
			h.DANE = map[string]dane.Result{
				"usable": {State: dane.Usable}, "unusable": {State: dane.Unusable}, "absent": {State: dane.Absent},
				"nowhere": {State: dane.Unreachable}, "dead": {State: dane.Failed, Err: &dns.Error{Reason: "SERVFAIL"}},
				"failed": {State: dane.Failed, Err: &dns.Error{Reason: "timed out"}}, "unknown": {},
			}[fields[2]]
			f.Hosts = append(f.Hosts, h)
		}
		f.STS.State = mtasts.Absent
		return f
	}
	enforced := func(f policy.Facts, mx ...string) policy.Facts {
		f.STS = stsPolicy(mtasts.Enforce, mx...)
		return f
	}
	const of = "OK secure match=%s servername=hostname"
	match := func(names ...string) string { return fmt.Sprintf(of, strings.Join(names, ":")) }
	for _, c := range []struct {
		name  string
		facts policy.Facts
		want  string
	}{
		// A secure MX RRset with usable hosts.
		{"a host without an address is ignored", hosts(signed, "10 a.example usable", "20 b.example nowhere"), "OK dane-only"},
		{"no host has an address: nothing to say", hosts(signed, "10 a.example nowhere"), "NOTFOUND "},
		{"the TLSA lookup of a backup host fails", hosts(signed, "10 a.example usable", "20 b.example failed"), "OK dane-only"},
		{"the TLSA lookup of the best host fails", hosts(signed, "10 a.example failed", "20 b.example usable"), "OK dane-only"},
		{"the same with a prefix", hosts(signed, "10 starttls-a.example usable", "20 starttls-b.example failed"), "OK dane-only"},
		{"one host fails beside one that is absent: dane-only would let it block the absent one", hosts(signed, "10 a.example usable", "20 b.example failed", "30 c.example absent"), "OK dane"},
		{"the same with a promise", hosts(signed, "10 a.example usable", "20 b.example failed", "30 starttls-c.example absent"), "OK dane-only"},
		{"usable and unusable", hosts(signed, "10 a.example usable", "20 b.example unusable"), "OK dane"},
		{"some usable, none promises", hosts(signed, "10 a.example usable", "20 b.example absent"), "OK dane"},
		{"the usable host promises", hosts(signed, "10 starttls-a.example usable", "20 b.example absent"), "OK dane-only"},
		{"the absent host promises", hosts(signed, "10 a.example usable", "20 starttls-b.example absent"), "OK dane-only"},
		{"both promise", hosts(signed, "10 starttls-a.example usable", "20 starttls-b.example absent"), "OK dane-only"},
		{"some usable, and an enforced policy", enforced(hosts(signed, "10 a.example usable", "20 b.example absent"), "*.example"), "OK dane-only"},
		{"some usable, and a policy that allows the absent host only", enforced(hosts(signed, "10 a.example usable", "20 b.example absent"), "b.example"), "OK dane-only"},
		{"prefix and DANE: DANE", hosts(signed, "10 starttls-a.example usable"), "OK dane-only"},
		{"hosts beyond the bound have no TLSA records", rest(hosts(signed, "10 a.example usable"), 5), "OK dane"},
		{"hosts beyond the bound, with a promise", rest(hosts(signed, "10 starttls-a.example usable"), 5), "OK dane-only"},

		// A secure MX RRset without a usable host.
		{"the addresses of the only host with TLSA records fail once", hosts(signed, "10 a.example absent", "20 b.example failed"), "OK dane"},
		{"the same in the other order", hosts(signed, "10 a.example failed", "20 b.example absent"), "OK dane"},
		{"unusable, and the host promises", hosts(signed, "10 starttls-a.example unusable"), match("starttls-a.example")},
		{"unusable, and an enforced policy", enforced(hosts(signed, "10 mx.example unusable"), "mx.example"), match("mx.example")},
		{"unusable", hosts(signed, "10 mx.example unusable"), "OK dane"},
		{"unusable and failed, and neither promises", hosts(signed, "10 a.example unusable", "20 b.example failed"), "OK dane"},
		{"the host that promises failed", hosts(signed, "10 a.example absent", "20 starttls-b.example failed"), "TEMP DANE lookup for port 25 of starttls-b.example failed: timed out"},
		{"both promise, one failed: they may share a certificate", hosts(signed, "10 starttls-a.example absent", "20 starttls-b.example failed"), "TEMP DANE lookup for port 25 of starttls-b.example failed: timed out"},
		{"the host that failed promises nothing, and match= does not name it", hosts(signed, "10 starttls-a.example absent", "20 b.example failed"), match("starttls-a.example")},
		{"the policy keeps the host that failed out", enforced(hosts(signed, "10 starttls-a.example absent", "20 starttls-b.example failed"), "starttls-a.example"), match("starttls-a.example")},
		{"the policy allows the host that failed", enforced(hosts(signed, "10 a.example absent", "20 b.example failed"), "*.example"), "TEMP DANE lookup for port 25 of b.example failed: timed out"},
		{"the policy allows the other host only", enforced(hosts(signed, "10 a.example absent", "20 b.example failed"), "a.example"), match("a.example")},
		{"every host failed", hosts(signed, "10 a.example failed", "20 b.example dead"), "TEMP DANE lookup for port 25 of b.example failed: SERVFAIL"},
		{"every host that has an address failed", hosts(signed, "10 a.example failed", "20 b.example nowhere"), "TEMP DANE lookup for port 25 of a.example failed: timed out"},
		{"nothing is known about a host: TEMP", hosts(signed, "10 a.example usable", "20 b.example unknown"), "TEMP internal error: a required fact is missing"},

		// An insecure MX RRset.
		{"TLSA records and a prefix", hosts(unsigned, "10 starttls-a.example usable"), match("starttls-a.example")},
		{"TLSA records at a host beside one with a prefix", hosts(unsigned, "10 a.example usable", "20 starttls-b.example dead"), match("starttls-b.example")},
		{"the host with a prefix has no address", hosts(unsigned, "10 a.example usable", "20 starttls-b.example nowhere"), match("starttls-b.example")},
		{"TLSA records of a forged host, and an enforced policy", enforced(hosts(unsigned, "10 mx.attacker.example usable"), "mx.example"), match("mx.example")},
		{"every host failed, and one promises", hosts(unsigned, "10 starttls-a.example failed"), match("starttls-a.example")},
		{"every host failed", hosts(unsigned, "10 a.example failed"), "TEMP DANE lookup for port 25 of a.example failed: timed out"},
		{"one failed and one is absent", hosts(unsigned, "10 a.example failed", "20 b.example absent"), "OK dane"},
		{"one failed and one is usable", hosts(unsigned, "10 a.example usable", "20 b.example failed"), "OK dane"},
		{"unusable", hosts(unsigned, "10 a.example unusable"), "OK dane"},

		{"port 26: only the smtps- hosts count", on(26, hosts(signed, "10 smtps-a.example usable", "20 b.example absent")), "OK dane-only"},
		{"port 26: without smtps- hosts every host counts", on(26, hosts(signed, "10 a.example usable", "20 b.example usable")), "OK dane-only"},
		{"port 26: some smtps- hosts are usable", on(26, hosts(signed, "10 smtps-a.example usable", "20 smtps-b.example absent")), "OK dane-only"},
		{"port 26: an smtps- host failed", on(26, hosts(signed, "10 smtps-a.example absent", "20 smtps-b.example failed")), "TEMP DANE lookup for port 26 of smtps-b.example failed: timed out"},
		{"port 26: an insecure MX RRset", on(26, hosts(unsigned, "10 smtps-a.example usable")), match("smtps-a.example")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, answered(c.facts, withDANEAndSTS()))
			if strings.Contains(c.want, "dane") {
				o := withDANEAndSTS()
				o.DANE = false
				require.NotEqual(t, policy.SourceDANE, source(policy.Decide(c.facts, o)), "dane = false")
			}
		})
	}
	for want, f := range map[policy.Reason]policy.Facts{
		policy.ReasonDANEFull:       hosts(signed, "10 a.example usable", "20 b.example failed"),
		policy.ReasonDANEPartial:    hosts(signed, "10 a.example absent", "20 b.example failed"),
		policy.ReasonDANEUnusable:   hosts(signed, "10 a.example unusable", "20 b.example failed"),
		policy.ReasonDANEInsecureMX: hosts(unsigned, "10 a.example usable"),
		policy.ReasonDANEFailed:     hosts(signed, "10 a.example failed"),
	} {
		d := policy.Decide(f, withDANEAndSTS())
		require.Equal(t, want, d.Reason)
		require.Equal(t, want == policy.ReasonDANEInsecureMX, d.Unsigned, "%s: only where the MX RRset is insecure", want)
	}
	ignoring := withDANEAndSTS()
	ignoring.IgnoreMixed = true
	require.Equal(t, "OK dane", answered(hosts(signed, "10 a.example usable", "20 starttls-b.example absent"), ignoring),
		"where the prefixes do not count, DANE for the hosts that have it")

	ignoring.IgnoreUnsigned = true
	require.Equal(t, "OK dane", answered(hosts(unsigned, "10 starttls-a.example usable"), ignoring),
		"a prefix that does not count does not promise anything")
}

// TestARelayHostOfPostfixThatCannotBeLookedUp: perhaps only /etc/hosts has it.
func TestARelayHostOfPostfixThatCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]policy.Reason{"relay.corp.example": policy.ReasonOwnRelay, "smtps-relay.corp.example": policy.ReasonDANEFailed} {
		f := host(name, 25)
		f.Hosts[0].DANE, f.Relay, f.Known.Relay = dane.Result{State: dane.Failed}, true, true
		d := policy.Decide(f, withDANEAndSTS())
		require.Equal(t, want, d.Reason)
		require.Equal(t, want == policy.ReasonOwnRelay, d.Verdict == policy.None)
	}
}

// TestDANEOfANextHopInBrackets: there is no MX RRset that could be insecure.
func TestDANEOfANextHopInBrackets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		state dane.State
		want  string
	}{
		{"mx.example.com", dane.Usable, "OK dane-only"},
		{"mx.example.com", dane.Unusable, "OK dane"},
		{"mx.example.com", dane.Absent, "NOTFOUND "},
		{"mx.example.com", dane.Unreachable, "NOTFOUND "},
		{"mx.example.com", dane.Failed, "TEMP DANE lookup for port 25 of mx.example.com failed"},
		{"starttls-a.example.com", dane.Usable, "OK dane-only"},
		{"starttls-a.example.com", dane.Unusable, "OK secure match=starttls-a.example.com servername=hostname"},
		{"starttls-a.example.com", dane.Failed, "TEMP DANE lookup for port 25 of starttls-a.example.com failed"},
	} {
		f := host(c.name, 25)
		f.Hosts[0].DANE, f.Known.Relay = dane.Result{State: c.state}, true
		require.Equal(t, c.want, answered(f, withDANEAndSTS()), "[%s] %s", c.name, c.state)
	}
}
