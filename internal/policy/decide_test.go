package policy_test

import (
	"cmp"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
)

// The short names of the tables below.
const (
	signed   = dns.Secure
	unsigned = dns.Insecure
)

func source(d policy.Decision) policy.Source { return d.Source() }

// answered and routed are what Postfix gets for a decision of Decide and of Route.
func answered(f policy.Facts, o policy.Options) string {
	d := policy.Decide(f, o)
	return d.Reply(o, false).String()
}

func routed(f policy.Facts, o policy.Options) string {
	d := policy.Route(f, o)
	return d.Reply(o, false).String()
}

func defaults() policy.Options {
	return policy.Options{Mode: policy.ModeEnforce, Port26Mode: policy.PortAlways, Port26: 26, Transport: "smtps26"}
}

func with(change func(*policy.Options)) policy.Options {
	o := defaults()
	change(&o)
	return o
}

// by returns the facts of example.com, reached by its MX hosts: "10 host" each, in order.
func by(status dns.Status, mx ...string) policy.Facts {
	f := policy.Facts{
		Nexthop:  policy.Nexthop{Name: "example.com", Port: 25},
		Known:    policy.FactSet{MX: true, Probes: true, Receiver: true, Addresses: 1<<len(mx) - 1},
		MX:       policy.MX{Status: status},
		Receiver: policy.Receiver{Known: true},
	}
	for _, m := range mx {
		preference, host, _ := strings.Cut(m, " ")
		p := uint16(0)
		for _, c := range preference {
			p = 10*p + uint16(c-'0')
		}
		f.Hosts = append(f.Hosts, policy.Host{Name: host, Preference: p, Class: prefix.Of(host)})
	}
	return f
}

// on returns the facts for the same domain with the key for another port.
func on(port uint16, f policy.Facts) policy.Facts {
	f.Nexthop.Port = port
	return f
}

func host(name string, port uint16) policy.Facts {
	return policy.Facts{
		Nexthop: policy.Nexthop{Name: name, Host: true, Port: port},
		Hosts:   []policy.Host{{Name: name, Class: prefix.Of(name)}},
	}
}

func overridden(o policy.Options, line policy.Override) policy.Options {
	line.Pattern = cmp.Or(line.Pattern, "example.com")
	o.Overrides = policy.Overrides{line.Pattern: line}
	return o
}

func failed(reason string) policy.Facts {
	f := by(dns.Indeterminate)
	f.MX = policy.MX{Err: &dns.Error{Reason: reason}}
	return f
}

// TestDecide is the specification of the TLS policy map.
func TestDecide(t *testing.T) {
	t.Parallel()
	ignoreUnsigned := with(func(o *policy.Options) { o.IgnoreUnsigned = true })
	ignoreMixed := with(func(o *policy.Options) { o.IgnoreMixed = true })
	off := with(func(o *policy.Options) { o.Mode = policy.ModeOff })
	const a, b, s = "starttls-a.example.com", "starttls-b.example.net", "smtps-s.example.com"
	const none = "NOTFOUND "

	for _, c := range []struct {
		name    string
		facts   policy.Facts
		options policy.Options
		want    string
		source  policy.Source
	}{
		// 1. Mode and overrides.
		{"mode off: NOTFOUND to everything", by(signed, "10 "+a), off, none, policy.SourceNone},
		{"mode off beats a failed lookup", failed("SERVFAIL"), off, none, policy.SourceNone},
		{"override ignore: NOTFOUND", by(signed, "10 "+a), overridden(defaults(), policy.Override{Ignore: true}), none, policy.SourceOverride},
		{"override ignore beats a failed lookup", failed("SERVFAIL"), overridden(defaults(), policy.Override{Ignore: true}), none, policy.SourceOverride},
		{"override with a literal policy: byte for byte", by(signed, "10 "+a), overridden(defaults(), policy.Override{Policy: "secure match=x.example"}), "OK secure match=x.example", policy.SourceOverride},
		{"override no-port26 leaves the TLS policy alone", by(signed, "10 "+s), overridden(defaults(), policy.Override{}), "OK secure match=" + s + " servername=hostname", policy.SourcePrefix},

		// A failed lookup may hide a promise.
		{"no facts: TEMP", policy.Facts{}, defaults(), "TEMP internal error: a required fact is missing", policy.SourceNone},
		{"MX never asked for: TEMP", policy.Facts{Nexthop: policy.Nexthop{Name: "example.com", Port: 25}}, defaults(), "TEMP internal error: a required fact is missing", policy.SourceNone},
		{"MX lookup failed: TEMP with the cause and the name", failed("SERVFAIL (signature expired)"), defaults(), "TEMP MX lookup for example.com failed: SERVFAIL (signature expired)", policy.SourceNone},
		{"MX lookup failed otherwise: TEMP", policy.Facts{Nexthop: policy.Nexthop{Name: "example.com", Port: 25}, MX: policy.MX{Err: errors.New("odd")}}, defaults(), "TEMP MX lookup for example.com failed: odd", policy.SourceNone},

		// 3. Prefix.
		{"every host starttls-, signed", by(signed, "10 "+a, "20 "+b), defaults(), "OK secure match=" + a + ":" + b + " servername=hostname", policy.SourcePrefix},
		{"names are sorted, not in MX order", by(signed, "10 "+b, "20 "+a), defaults(), "OK secure match=" + a + ":" + b + " servername=hostname", policy.SourcePrefix},
		{"smtps- and starttls- mixed: all promise STARTTLS on 25", by(signed, "10 "+s, "20 "+a), defaults(), "OK secure match=" + s + ":" + a + " servername=hostname", policy.SourcePrefix},
		{"unsigned: the promise is still honoured", by(unsigned, "10 "+a), defaults(), "OK secure match=" + a + " servername=hostname", policy.SourcePrefix},
		{"an indeterminate status counts as unsigned", by(dns.Indeterminate, "10 "+a), ignoreUnsigned, none, policy.SourceNone},
		{"unsigned_mx ignore: not for unsigned", by(unsigned, "10 "+a), ignoreUnsigned, none, policy.SourceNone},
		{"unsigned_mx ignore: signed counts", by(signed, "10 "+a), ignoreUnsigned, "OK secure match=" + a + " servername=hostname", policy.SourcePrefix},
		{"mixed set: only the prefixed hosts", by(signed, "10 mx.example.com", "20 "+a), defaults(), "OK secure match=" + a + " servername=hostname", policy.SourcePrefix},
		{"mixed_mx ignore: not for a mixed set", by(signed, "10 mx.example.com", "20 "+a), ignoreMixed, none, policy.SourceNone},
		{"mixed_mx ignore: two prefixes are not a mixed set", by(signed, "10 "+s, "20 "+a), ignoreMixed, "OK secure match=" + s + ":" + a + " servername=hostname", policy.SourcePrefix},
		{"hosts beyond the bound make a set mixed", rest(by(signed, "10 "+a), 1), ignoreMixed, none, policy.SourceNone},
		{"an MX that is not a host name makes a set mixed", by(signed, "10 starttls-a\\032b.example.com", "20 "+a), ignoreMixed, none, policy.SourceNone},
		{"an MX that is not a host name never reaches match", by(signed, "10 starttls-a\\032b.example.com", "20 "+a), defaults(), "OK secure match=" + a + " servername=hostname", policy.SourcePrefix},

		// Port 26.
		{"port 26: only smtps- hosts", on(26, by(signed, "10 "+a, "20 "+s)), defaults(), "OK secure match=" + s + " servername=hostname", policy.SourcePrefix},
		{"port 26: starttls- promises nothing there", on(26, by(signed, "10 "+a)), defaults(), none, policy.SourceNone},
		{"port 26: two prefixes are not a mixed set", on(26, by(signed, "10 "+a, "20 "+s)), ignoreMixed, "OK secure match=" + s + " servername=hostname", policy.SourcePrefix},

		// A next hop that is a host.
		{"[starttls-…]", host(a, 25), defaults(), "OK secure match=" + a + " servername=hostname", policy.SourcePrefix},
		{"[smtps-…] on 25", host(s, 25), defaults(), "OK secure match=" + s + " servername=hostname", policy.SourcePrefix},
		{"[smtps-…] on 26", host(s, 26), defaults(), "OK secure match=" + s + " servername=hostname", policy.SourcePrefix},
		{"[starttls-…] on 26", host(a, 26), defaults(), none, policy.SourceNone},
		{"[mx]", host("mx.example.com", 25), defaults(), none, policy.SourceNone},
		{"[starttls-…] has no MX RRset that could be unsigned", host(a, 25), ignoreUnsigned, "OK secure match=" + a + " servername=hostname", policy.SourcePrefix},

		// 5. Nothing applies.
		{"no prefix", by(signed, "10 mx.example.com"), defaults(), none, policy.SourceNone},
		{"no MX RRset", by(signed), defaults(), none, policy.SourceNone},
		{"null MX", with1(by(signed), func(f *policy.Facts) { f.MX.Null = true }), defaults(), none, policy.SourceNone},
		{"NXDOMAIN", with1(by(unsigned), func(f *policy.Facts) { f.MX.NXDomain = true }), defaults(), none, policy.SourceNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := policy.Decide(c.facts, c.options)
			require.Equal(t, c.want, d.Reply(c.options, false).String())
			require.Equal(t, c.source, d.Source())
			require.NotEmpty(t, d.Why, "every decision is explained")
			if c.options.Mode == policy.ModeEnforce {
				c.options.Mode = policy.ModeReport
				require.Equal(t, d, policy.Decide(c.facts, c.options), "report mode decides the same")
			}
		})
	}
}

func rest(f policy.Facts, n int) policy.Facts {
	f.MX.Rest, f.MX.RestPreference = n, f.Hosts[len(f.Hosts)-1].Preference
	return f
}

// A set that is too large counts as mixed although every name carries a prefix, so the reason must be shown.
func TestHostsBeyondTheBoundAreMentioned(t *testing.T) {
	t.Parallel()
	const why = "there are more than 32 MX hosts: the others count as having neither a prefix nor TLSA records"
	f := by(signed, "10 starttls-a.example.com")
	require.NotContains(t, policy.Decide(f, defaults()).Why, why)
	require.Contains(t, policy.Decide(rest(f, 1), defaults()).Why, why)
	require.Contains(t, policy.Decide(rest(by(signed, "10 a.example.com"), 1), defaults()).Why, why)
}

func with1(f policy.Facts, change func(*policy.Facts)) policy.Facts {
	change(&f)
	return f
}

func TestDecideReportsAnUnsignedPromise(t *testing.T) {
	t.Parallel()
	require.True(t, policy.Decide(by(unsigned, "10 starttls-a.example.com"), defaults()).Unsigned)
	require.False(t, policy.Decide(by(signed, "10 starttls-a.example.com"), defaults()).Unsigned)
}

// TestRoute is the specification of the transport map.
func TestRoute(t *testing.T) {
	t.Parallel()
	const s, u, a = "smtps-s.example.com", "smtps-u.example.com", "starttls-a.example.com"
	const none = "NOTFOUND "
	off := with(func(o *policy.Options) { o.Port26Mode = policy.PortOff })
	probing := with(func(o *policy.Options) { o.Port26Mode = policy.PortProbe })
	elsewhere := func(change func(*policy.Facts)) policy.Facts { return with1(by(signed, "10 "+s), change) }

	for _, c := range []struct {
		name    string
		facts   policy.Facts
		options policy.Options
		want    string
	}{
		{"every host smtps-: by the domain", by(signed, "10 "+s, "20 "+u), defaults(), "OK smtps26:example.com:26"},
		{"unsigned: by the domain too", by(unsigned, "10 "+s), defaults(), "OK smtps26:example.com:26"},
		{"another port and transport", by(signed, "10 "+s), with(func(o *policy.Options) { o.Port26, o.Transport = 2626, "tls" }), "OK tls:example.com:2626"},
		{"the leading groups, by preference then name", by(signed, "10 "+s, "10 "+u, "20 mx.example.com"), defaults(), "OK smtps26:[" + s + "]:26, [" + u + "]:26"},
		{"a starttls- backup stays out of the list", by(signed, "10 "+s, "20 "+a), defaults(), "OK smtps26:[" + s + "]:26"},
		{"two leading groups", by(signed, "10 "+u, "20 "+s, "30 "+a), defaults(), "OK smtps26:[" + u + "]:26, [" + s + "]:26"},
		{"a better host without the promise: MX order is obeyed", by(signed, "10 mx.example.com", "20 "+s), defaults(), none},
		{"one of the best hosts without the promise", by(signed, "10 mx.example.com", "10 "+s), defaults(), none},
		{"starttls- only", by(signed, "10 "+a), defaults(), none},
		{"hosts beyond the bound: the considered ones as a list", with1(by(signed, "10 "+s, "20 "+u), func(f *policy.Facts) { f.MX.Rest, f.MX.RestPreference = 5, 30 }), defaults(), "OK smtps26:[" + s + "]:26, [" + u + "]:26"},
		{"hosts beyond the bound in the same group", rest(by(signed, "10 "+s, "20 "+u), 5), defaults(), "OK smtps26:[" + s + "]:26"},
		{"hosts beyond the bound in the only group", rest(by(signed, "10 "+s, "10 "+u), 5), defaults(), none},

		{"port26.mode off", by(signed, "10 "+s), off, none},
		{"port26.mode probe and nothing known about the port", by(signed, "10 "+s), probing, none},
		{"mode off", by(signed, "10 "+s), with(func(o *policy.Options) { o.Mode = policy.ModeOff }), none},
		{"unsigned_mx ignore and unsigned", by(unsigned, "10 "+s), with(func(o *policy.Options) { o.IgnoreUnsigned = true }), none},
		{"unsigned_mx ignore and signed", by(signed, "10 "+s), with(func(o *policy.Options) { o.IgnoreUnsigned = true }), "OK smtps26:example.com:26"},
		{"mixed_mx ignore and mixed", by(signed, "10 "+s, "20 mx.example.com"), with(func(o *policy.Options) { o.IgnoreMixed = true }), none},
		{"override no-port26", by(signed, "10 "+s), overridden(defaults(), policy.Override{}), none},
		{"override ignore", by(signed, "10 "+s), overridden(defaults(), policy.Override{Ignore: true}), none},
		{"override with a literal policy", by(signed, "10 "+s), overridden(defaults(), policy.Override{Policy: "secure"}), none},
		{"an override for a host of the list", by(signed, "10 "+s, "20 mx.example.com"), overridden(defaults(), policy.Override{Ignore: true, Pattern: s}), none},

		{"MX lookup failed: port 25 under the TLS policy is always safe", failed("SERVFAIL"), defaults(), none},
		{"no facts", policy.Facts{}, defaults(), none},
		{"no MX RRset", by(signed), defaults(), none},
		{"null MX", with1(by(signed), func(f *policy.Facts) { f.MX.Null = true }), defaults(), none},

		{"received here: a loop", elsewhere(func(f *policy.Facts) { f.Receiver.Here = true }), defaults(), none},
		{"not known whether it is received here", elsewhere(func(f *policy.Facts) { f.Receiver = policy.Receiver{Why: "postconf failed"} }), defaults(), none},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := policy.Route(c.facts, c.options)
			require.Equal(t, c.want, d.Reply(c.options, false).String())
			if d.Need.Required.Empty() {
				require.NotEmpty(t, d.Why, "every decision is explained")
			}
		})
	}
}

// TestRouteAgreesWithPolicy checks that there is a route only if the key that Postfix asks for next has a policy that
// verifies the host.
func TestRouteAgreesWithPolicy(t *testing.T) {
	t.Parallel()
	names := []string{"smtps-a.example.com", "smtps-b.example.com", "starttls-c.example.com", "mx.example.com"}
	for i := range 1 << (2 * 4) {
		var mx []string
		for j := range 4 {
			preference := "10 "
			if i>>(2*j)&2 != 0 {
				preference = "20 "
			}
			if i>>(2*j)&1 != 0 {
				mx = append(mx, preference+names[j])
			}
		}
		for _, status := range []dns.Status{dns.Indeterminate, signed, unsigned} {
			for _, o := range []policy.Options{defaults(),
				with(func(o *policy.Options) { o.IgnoreUnsigned = true }),
				with(func(o *policy.Options) { o.IgnoreMixed = true })} {
				f := by(status, mx...)
				reply := routed(f, o)
				to, routed := strings.CutPrefix(reply, "OK smtps26:")
				if !routed {
					continue
				}
				for key := range strings.SplitSeq(to, ", ") {
					next, ok := policy.ParseNexthop(key, 26)
					require.True(t, ok, key)
					then := f
					if next.Host {
						then = host(next.Name, 26)
					}
					then.Nexthop = next
					require.Equal(t, policy.LevelSecure, policy.Decide(then, o).TLS.Level, "%s for %v", key, mx)
				}
			}
		}
	}
}
