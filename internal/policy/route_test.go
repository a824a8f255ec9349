package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
)

// TestRouteByProbe is the part of the specification of routes that is about what is found on port 26.
func TestRouteByProbe(t *testing.T) {
	t.Parallel()
	const s, u, none = "smtps-s.example.com", "smtps-u.example.com", "NOTFOUND "
	probing := with(func(o *policy.Options) { o.Port26Mode = policy.PortProbe })
	states := func(f policy.Facts, found ...probe.State) policy.Facts {
		for i := range found {
			f.Hosts[i].Probe = probe.Verdict{State: found[i]}
		}
		return f
	}
	for _, c := range []struct {
		name  string
		facts policy.Facts
		want  string
	}{
		{"preference 0", states(by(signed, "0 "+s), probe.Open), "OK smtps26:example.com:26"},
		{"every host smtps- and open: by the domain", states(by(signed, "10 "+s, "20 "+u), probe.Open, probe.Open), "OK smtps26:example.com:26"},
		{"not yet probed is not used", states(by(signed, "10 "+s)), none},
		{"closed is not used", states(by(signed, "10 "+s), probe.Closed), none},
		{"one of the best hosts is closed: MX order is obeyed", states(by(signed, "10 "+s, "10 "+u), probe.Open, probe.Closed), none},
		{"the backup is closed: the open ones as a list", states(by(signed, "10 "+s, "20 "+u), probe.Open, probe.Closed), "OK smtps26:[" + s + "]:26"},
		{"the primary is closed: the backup is never preferred", states(by(signed, "10 "+s, "20 "+u), probe.Closed, probe.Open), none},
		{"a primary without port 26: the backup is never preferred", states(by(signed, "10 mx.example.com", "20 "+u), probe.Unknown, probe.Open), none},
	} {
		require.Equal(t, c.want, routed(c.facts, probing), c.name)
		require.NotEmpty(t, policy.Route(c.facts, probing).Why)
	}
}

// The reason for a missing route names no host where there is none.
func TestRouteWithoutHosts(t *testing.T) {
	t.Parallel()
	d := policy.Route(by(signed), with(func(o *policy.Options) { o.Port26Mode = policy.PortProbe }))
	require.Equal(t, policy.None, d.Verdict)
	require.Equal(t, []string{"there is no MX host"}, d.Why)
}

// TestWhyThereIsNoRoute: the reason names the first host that is not open, and what its port must do.
func TestWhyThereIsNoRoute(t *testing.T) {
	t.Parallel()
	probing := with(func(o *policy.Options) { o.Port26Mode = policy.PortProbe })
	f := by(signed, "10 smtps-s.example.com", "10 smtps-u.example.com")
	f.Hosts[0].Probe.State = probe.Open
	f.Hosts[1].Probe = probe.Verdict{State: probe.Closed, Cause: "name-mismatch"}
	require.Equal(t, []string{"not every MX host of the best preference is an smtps- host with port 26 open: smtps-u.example.com is closed (name-mismatch)"}, policy.Route(f, probing).Why)
	require.Contains(t, policy.Route(f, defaults()).Why[0], `port26.mode = "always": no probe is needed`)
	f.Hosts[1].Probe = probe.Verdict{State: probe.Open}
	require.Equal(t, []string{"every MX host is an smtps- host with port 26 open"}, policy.Route(f, probing).Why)

	// A host that is never probed does not look as if a probe would follow.
	const unknown = "not every MX host of the best preference is an smtps- host with port 26 open: smtps-u.example.com is unknown"
	f.Hosts[1].Probe = probe.Verdict{}
	require.Equal(t, []string{unknown}, policy.Route(f, probing).Why)
	reporting := probing
	reporting.Mode = policy.ModeReport
	require.Equal(t, []string{unknown + ` (not probed: mode = "report")`}, policy.Route(f, reporting).Why)
	left := overridden(probing, policy.Override{Pattern: ".example.com"})
	require.Equal(t, []string{unknown + " (not probed: the overrides file has a line for .example.com)"}, policy.Route(f, left).Why)

	// A worse preference is not named, and neither is a host without the prefix.
	f = by(signed, "10 smtps-s.example.com", "10 mx.example.com", "20 smtps-u.example.com")
	f.Hosts[0].Probe.State = probe.Open
	require.Equal(t, []string{"not every MX host of the best preference is an smtps- host with port 26 open"}, policy.Route(f, probing).Why)
	require.Equal(t, []string{"no route: the MX lookup failed: SERVFAIL"}, policy.Route(failed("SERVFAIL"), probing).Why)
	require.Equal(t, []string{"no route without an MX RRset"}, policy.Route(host("smtps-s.example.com", 25), probing).Why)
	need := policy.Route(policy.Facts{}, probing).Need
	require.Empty(t, need.Required, "without a name nothing is looked up")

	// A line in the overrides file for a host, whose port was found open earlier: it is left alone, in a list and in a
	// route by the domain alike.
	f = by(signed, "10 smtps-s.example.com")
	f.Hosts[0].Probe.State = probe.Open
	line := policy.Override{Pattern: "smtps-s.example.com"}
	require.Equal(t, []string{"the overrides file has a line for smtps-s.example.com"}, policy.Route(f, overridden(probing, line)).Why)
	require.Equal(t, "NOTFOUND ", routed(f, overridden(defaults(), line)))
	list := by(signed, "10 smtps-s.example.com", "20 smtps-u.example.com", "30 mx.example.com")
	require.Equal(t, "OK smtps26:[smtps-s.example.com]:26", routed(list, overridden(defaults(), policy.Override{Pattern: "smtps-u.example.com"})))
	require.Equal(t, "OK smtps26:[smtps-s.example.com]:26, [smtps-u.example.com]:26", routed(list, defaults()))
}

// TestRouteWithDANEAndSTS is the part that is about the other mechanisms.
func TestRouteWithDANEAndSTS(t *testing.T) {
	t.Parallel()
	const s, u, none = "smtps-s.example.com", "smtps-u.example.com", "NOTFOUND "
	facts := func(sts mtasts.Result, on25, on26 dane.State) policy.Facts {
		f := by(signed, "10 "+s, "20 "+u)
		f.STS = sts
		for i := range f.Hosts {
			f.Hosts[i].DANE.State, f.Hosts[i].DANE26.State = on25, on26
		}
		return f
	}
	absent := mtasts.Result{State: mtasts.Absent}
	second := func(f policy.Facts, on25, on26 dane.State) policy.Facts {
		f.Hosts[1].DANE.State, f.Hosts[1].DANE26.State = on25, on26
		return f
	}
	for _, c := range []struct {
		name  string
		facts policy.Facts
		want  string
	}{
		{"neither", facts(absent, dane.Absent, dane.Absent), "OK smtps26:example.com:26"},
		{"TLSA for both ports", facts(absent, dane.Usable, dane.Usable), "OK smtps26:example.com:26"},
		{"TLSA for port 26 only", facts(absent, dane.Absent, dane.Usable), "OK smtps26:example.com:26"},
		{"TLSA for port 25 and securely none for port 26: it stays on 25 with DANE", facts(absent, dane.Usable, dane.Absent), none},
		{"the same for the second host: the first as a list", second(facts(absent, dane.Absent, dane.Absent), dane.Usable, dane.Absent), "OK smtps26:[" + s + "]:26"},
		{"the first with TLSA for both ports as a list", second(facts(absent, dane.Usable, dane.Usable), dane.Usable, dane.Absent), "OK smtps26:[" + s + "]:26"},
		{"unusable TLSA for port 26: the promise verifies the host", facts(absent, dane.Absent, dane.Unusable), "OK smtps26:example.com:26"},
		{"TLSA for port 25, and the host cannot be reached for port 26: it stays on 25 with DANE", facts(absent, dane.Usable, dane.Unreachable), none},
		{"usable TLSA for port 25 and unusable for port 26: it stays on 25 with DANE", facts(absent, dane.Usable, dane.Unusable), none},
		{"unusable TLSA for port 25 and securely none for port 26: it stays on 25", facts(absent, dane.Unusable, dane.Absent), none},
		{"unusable TLSA for both ports", facts(absent, dane.Unusable, dane.Unusable), none},
		{"no address, which both lookups found", facts(absent, dane.Unreachable, dane.Unreachable), "OK smtps26:example.com:26"},
		{"the addresses cannot be looked up for port 26", facts(absent, dane.Absent, dane.Failed), none},
		{"the addresses cannot be looked up for port 25", facts(absent, dane.Failed, dane.Absent), none},
		{"in doubt about port 25", facts(absent, dane.Failed, dane.Usable), none},
		{"in doubt about port 26", facts(absent, dane.Absent, dane.Failed), none},
		{"nothing known about DANE", facts(absent, dane.Unknown, dane.Unknown), none},
		{"nothing known about MTA-STS", facts(mtasts.Result{}, dane.Absent, dane.Absent), none},
		{"the policy allows both", facts(stsPolicy(mtasts.Enforce, "*.example.com"), dane.Absent, dane.Absent), "OK smtps26:example.com:26"},
		{"the policy allows the first: as a list", facts(stsPolicy(mtasts.Enforce, s), dane.Absent, dane.Absent), "OK smtps26:[" + s + "]:26"},
		{"the policy allows the second only", facts(stsPolicy(mtasts.Enforce, u), dane.Absent, dane.Absent), none},
		{"a testing policy excludes no host", facts(stsPolicy(mtasts.Testing, u), dane.Absent, dane.Absent), "OK smtps26:example.com:26"},
	} {
		d := policy.Route(c.facts, withDANEAndSTS())
		require.Equal(t, c.want, routed(c.facts, withDANEAndSTS()), c.name)
		require.True(t, len(d.Why) > 0 || !d.Need.Required.Empty())
	}
	f := facts(absent, dane.Usable, dane.Usable)
	f.MX.Status = unsigned
	require.Equal(t, "OK smtps26:example.com:26", routed(f, withDANEAndSTS()), "an insecure MX RRset: the promise verifies the hosts")
}
