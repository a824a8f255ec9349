package policy_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
)

// A host is probed only where a route can follow, and a receiver is left alone with one line in the overrides file.
func TestProbeTargets(t *testing.T) {
	t.Parallel()
	const s, u, st, mx = "smtps-s.example.com", "smtps-u.example.com", "starttls-t.example.com", "mx.example.com"
	probing := func(change func(*policy.Options)) policy.Options {
		return with(func(o *policy.Options) {
			o.MTASTS, o.Port26Mode = true, policy.PortProbe
			if change != nil {
				change(o)
			}
		})
	}
	lines := func(text string) policy.Overrides {
		o, mistakes := parse(text)
		require.Empty(t, mistakes)
		return o
	}
	enforcing := func(f policy.Facts, patterns ...string) policy.Facts {
		f.STS = mtasts.Result{State: mtasts.Found, Policy: mtasts.Policy{Mode: mtasts.Enforce, MX: patterns}}
		return f
	}
	host := func(name string, port uint16) policy.Facts {
		return policy.Facts{Nexthop: policy.Nexthop{Name: name, Host: true, Port: port}, Hosts: []policy.Host{{Name: name, Class: prefix.Of(name)}}}
	}
	for _, c := range []struct {
		name      string
		facts     policy.Facts
		overrides string
		options   policy.Options
		want      []string
	}{
		{"every host smtps-", by(signed, "10 "+s, "20 "+u), "", probing(nil), []string{s, u}},
		{"an unsigned set", by(unsigned, "10 "+s), "", probing(nil), []string{s}},
		{"no-port26 for the domain", by(signed, "10 "+s), "example.com no-port26", probing(nil), nil},
		{"no-port26 for all subdomains of a parent", by(signed, "10 "+s), ".com no-port26", probing(nil), nil},
		{"no-port26 for the host", by(signed, "10 "+s, "20 "+u), u + " no-port26", probing(nil), []string{s}},
		{"no-port26 for the best host", by(signed, "10 "+s, "20 "+u), s + " no-port26", probing(nil), nil},
		{"ignore for the domain", by(signed, "10 "+s), "example.com ignore", probing(nil), nil},
		{"a literal policy", by(signed, "10 "+s), "example.com may", probing(nil), nil},
		{"report mode", by(signed, "10 "+s), "", probing(func(o *policy.Options) { o.Mode = policy.ModeReport }), nil},
		{"port 26 off", by(signed, "10 "+s), "", probing(func(o *policy.Options) { o.Port26Mode = policy.PortOff }), nil},
		{"port 26 always", by(signed, "10 "+s), "", probing(func(o *policy.Options) { o.Port26Mode = policy.PortAlways }), nil},
		{"the best host is not smtps-", by(signed, "10 "+mx, "20 "+s), "", probing(nil), nil},
		{"the best host is starttls-", by(signed, "10 "+st, "20 "+s), "", probing(nil), nil},
		{"another host in the best group", by(signed, "10 "+s, "10 "+mx), "", probing(nil), nil},
		{"a backup behind another host", by(signed, "10 "+s, "20 "+mx, "30 "+u), "", probing(nil), []string{s}},
		{"unsigned, and unsigned is ignored", by(unsigned, "10 "+s), "", probing(func(o *policy.Options) { o.IgnoreUnsigned = true }), nil},
		{"mixed, and mixed is ignored", by(signed, "10 "+s, "20 "+mx), "", probing(func(o *policy.Options) { o.IgnoreMixed = true }), nil},
		{"MTA-STS allows the host", enforcing(by(signed, "10 "+s), s), "", probing(nil), []string{s}},
		{"MTA-STS does not allow the host", enforcing(by(signed, "10 "+s), mx), "", probing(nil), nil},
		{"[host] on port 26", host(s, 26), "", probing(nil), []string{s}},
		{"[host] on port 26, left alone", host(s, 26), s + " no-port26", probing(nil), nil},
		{"[host] on port 25: no route follows", host(s, 25), "", probing(nil), nil},
		{"[host] without the prefix", host(mx, 26), "", probing(nil), nil},
	} {
		c.options.Overrides = lines(c.overrides)
		got := policy.ProbeTargets(c.facts, c.options)
		require.ElementsMatch(t, c.want, got, c.name)
		for i, name := range got { // kept for long; that of the facts may be a part of something large
			require.NotSame(t, unsafe.StringData(c.facts.Hosts[i].Name), unsafe.StringData(name), c.name)
		}
	}
}
