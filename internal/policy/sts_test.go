package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
)

// A policy for Postfix lists valid names only, each once and in order, and no pattern that lets in a host that the
// MTA-STS policy keeps out.
func TestNamesOfAnEnforcedPolicy(t *testing.T) {
	t.Parallel()
	o := with(func(o *policy.Options) { o.MTASTS = true })
	facts := func(sts mtasts.Result, mx ...string) policy.Facts {
		f := by(unsigned, mx...)
		f.STS, f.Known.Relay = sts, true
		return f
	}
	const deferred = "TEMP no MX host of example.com is allowed by its MTA-STS policy"
	rest := facts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 mx.example.net")
	rest.MX.Rest, rest.MX.RestPreference = 1, 20
	for name, c := range map[string]struct {
		facts policy.Facts
		want  string
	}{
		"hosts in order": {
			facts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 mx-c.example.com", "20 mx-a.example.com", "30 mx-b.example.com"),
			"OK secure match=mx-a.example.com:mx-b.example.com:mx-c.example.com servername=hostname",
		},
		"a host that is not a host name": {
			facts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 a:b.example.com", "10 a b.example.com", "20 mx.example.com"),
			"OK secure match=mx.example.com servername=hostname",
		},
		"patterns that are not host names": {
			facts(stsPolicy(mtasts.Enforce, "a b.example.com", "*.a:b.example.com", "*.", "mx.example.org"), "10 mx.example.net"),
			"OK secure match=mx.example.org servername=hostname",
		},
		"the same pattern twice": {
			facts(stsPolicy(mtasts.Enforce, "mx.example.org", "*.example.com", "mx.example.org"), "10 mx.example.net"),
			"OK secure match=.example.com:mx.example.org servername=hostname",
		},
		"a host with more labels than the pattern":    {facts(stsPolicy(mtasts.Enforce, "*.example.com"), "10 mx.a.example.com"), deferred},
		"hosts that are not considered may be deeper": {rest, deferred},
	} {
		require.Equal(t, c.want, answered(c.facts, o), name)
	}
}

func TestReasonsForAnEnforcedPolicy(t *testing.T) {
	t.Parallel()
	o := with(func(o *policy.Options) { o.MTASTS = true })
	f := by(unsigned, "10 mx.example.com")
	f.STS = stsPolicy(mtasts.Enforce, "mx.example.com")
	require.True(t, policy.Decide(f, o).Unsigned)
	require.NotContains(t, strings.Join(policy.Decide(f, o).Why, "\n"), "cached policy")
	f.MX.Status = signed
	require.False(t, policy.Decide(f, o).Unsigned)
	f.STS.Stale, f.STS.Why = true, "HTTP status 503"
	require.Contains(t, strings.Join(policy.Decide(f, o).Why, "\n"), "the cached policy remains valid, although the domain could not confirm it now: HTTP status 503")
}

// What Postfix could not read is left out of what it reports on, and so is all of it where it is too long; the policy
// for TLS is the same.
func TestReportOfAnEnforcedPolicy(t *testing.T) {
	t.Parallel()
	o := with(func(o *policy.Options) { o.MTASTS = true })
	const tls = "OK secure match=mx.example.com servername=hostname"
	f := by(unsigned, "10 mx.example.com")
	f.STS = stsPolicy(mtasts.Enforce, "mx.example.com", "*.example.org", "a b.example.com")
	f.STS.Policy.Raw = []string{"version: STSv1", "", " ", "x: {", "x: }", "x: \x01", "x: ü", "max_age: 3600"}
	d := policy.Decide(f, o)
	require.Equal(t, tls+" policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com mx_host_pattern=*.example.org"+
		" { policy_string = version: STSv1 } { policy_string = max_age: 3600 }", d.Reply(o, true).String())
	require.Equal(t, tls, d.Reply(o, false).String())
	f.STS.Policy.Raw = []string{strings.Repeat("x", 40_000)}
	d = policy.Decide(f, o)
	require.Greater(t, len(d.Reply(o, true).String()), 40_000)
	f.STS.Policy.Raw = []string{strings.Repeat("x", 50_000)}
	d = policy.Decide(f, o)
	require.Equal(t, tls, d.Reply(o, true).String())
}
