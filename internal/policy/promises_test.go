package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/promises"
)

// remembered returns f for a next hop whose promises of some kinds are established.
func remembered(f policy.Facts, kinds ...promises.Kind) policy.Facts {
	f.History = promises.History{Kinds: kinds, Days: 7, Last: 20000, Holdable: true}
	return f
}

func TestAVanishedPromiseIsNoticedAndHeld(t *testing.T) {
	t.Parallel()
	plain := by(unsigned, "10 mx.example.com")
	absent := func(f policy.Facts) policy.Facts {
		f.STS = mtasts.Result{State: mtasts.Absent, Domain: "example.com"}
		return f
	}
	sts := func(f policy.Facts, r mtasts.Result) policy.Facts {
		f.STS = r
		return f
	}
	stale := stsPolicy(mtasts.Testing, "mx.example.com")
	stale.Stale = true
	const gone = "TEMP example.com is held: the domain promised authenticated TLS (prefix) on 7 days, last on 2024-10-04, and " +
		"the promise is missing from an unsigned answer"
	spent := remembered(absent(plain), promises.Prefix)
	spent.History.Holdable = false
	onlyHost := host("mx.example.com", 25)
	for _, c := range []struct {
		name     string
		facts    policy.Facts
		held     string // with mode hold; the answer is NOTFOUND with mode alert
		vanished bool
	}{
		{"nothing is remembered", absent(plain), "NOTFOUND ", false},
		{"the prefix is gone from an unsigned answer", remembered(absent(plain), promises.Prefix), gone, true},
		{"an unsigned denial of the MX RRset", remembered(absent(policy.Facts{Nexthop: domain, Known: policy.FactSet{MX: true, Addresses: 1}, MX: policy.MX{Status: unsigned, Implicit: true}, Hosts: []policy.Host{{Name: "example.com"}}}), promises.Prefix), gone, true},
		{"an unsigned null MX", remembered(absent(policy.Facts{Nexthop: domain, Known: policy.FactSet{MX: true}, MX: policy.MX{Status: unsigned, Null: true}}), promises.Prefix), gone, true},
		{"held once in the last thirty days", spent, "NOTFOUND ", true},
		{"a signed answer is authentic", remembered(absent(by(signed, "10 mx.example.com")), promises.Prefix), "NOTFOUND ", false},
		{"the prefix is there", remembered(absent(by(unsigned, "10 starttls-mx.example.com")), promises.Prefix), "OK secure match=starttls-mx.example.com servername=hostname", false},
		{"MTA-STS takes its place", remembered(sts(plain, stsPolicy(mtasts.Enforce, "mx.example.com")), promises.Prefix), "OK secure match=mx.example.com servername=hostname", false},
		{"the web server of the domain ends the MTA-STS policy", remembered(sts(plain, stsPolicy(mtasts.None)), promises.MTASTS), "NOTFOUND ", false},
		{"the web server proves nothing about the prefix", remembered(sts(plain, stsPolicy(mtasts.None)), promises.Prefix), gone, true},
		{"an older policy shows nothing about today", remembered(sts(plain, stale), promises.Prefix), gone, true},
		{"a failed MX lookup", remembered(policy.Facts{Nexthop: domain, MX: policy.MX{Err: &dns.Error{Reason: "SERVFAIL"}}}, promises.Prefix), "TEMP MX lookup for example.com failed: SERVFAIL", false},
		{"a next hop in brackets", remembered(onlyHost), "NOTFOUND ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.facts.Hosts = slices.Clone(c.facts.Hosts) // rows share the slices of their facts
			for i := range c.facts.Hosts {
				c.facts.Hosts[i].DANE = dane.Result{State: dane.Absent}
			}
			c.facts.Known.Relay = true
			o := withDANEAndSTS()
			o.OnVanished = promises.Hold
			require.Equal(t, c.held, answered(c.facts, o))
			require.Equal(t, c.vanished, policy.Decide(c.facts, o).Vanished)
			o.OnVanished = promises.Alert
			alert := policy.Decide(c.facts, o)
			require.Equal(t, c.vanished, alert.Vanished)
			if c.vanished {
				require.Equal(t, "NOTFOUND ", answered(c.facts, o))
				require.Contains(t, alert.Why[len(alert.Why)-2], "promised authenticated TLS")
			}
			o.OnVanished = promises.Off
			require.False(t, policy.Decide(c.facts, o).Vanished)
			_, ok := policy.Observed(c.facts, o, policy.Decide(c.facts, o))
			require.False(t, ok)
		})
	}
}

func TestWhatADecisionShowsAboutPromises(t *testing.T) {
	t.Parallel()
	both := by(signed, "10 starttls-mx.example.com")
	both.Hosts[0].DANE.State = dane.Usable
	none := by(unsigned, "10 mx.example.com")
	none.Hosts[0].DANE.State = dane.Absent
	none.STS.State = mtasts.Absent
	enforced := none
	enforced.STS = stsPolicy(mtasts.Enforce, "mx.example.com")
	absent := mtasts.Result{State: mtasts.Absent, Domain: "example.com"}
	hostsOf := func(status dns.Status, hosts string, states ...dane.State) policy.Facts {
		f := by(status, strings.Split(hosts, ", ")...)
		for i, s := range states {
			f.Hosts[i].DANE.State = s
		}
		f.STS = absent
		return f
	}
	for _, c := range []struct {
		name  string
		facts policy.Facts
		want  promises.Answer
		ok    bool
	}{
		{"DANE and a prefix, signed", both, promises.Answer{Kinds: []promises.Kind{promises.Prefix, promises.DANE}, Authentic: true}, true},
		{"MTA-STS, unsigned", enforced, promises.Answer{Kinds: []promises.Kind{promises.MTASTS}}, true},
		{"no promise, unsigned", none, promises.Answer{}, true},
		{"TLSA records, unsigned", hostsOf(unsigned, "10 a.example", dane.Usable), promises.Answer{Kinds: []promises.Kind{promises.DANE}}, true},
		{"unusable TLSA records beside a failed host", hostsOf(unsigned, "10 a.example, 20 b.example", dane.Unusable, dane.Failed), promises.Answer{Kinds: []promises.Kind{promises.DANE}}, true},
		{"dane because a lookup failed, unsigned", hostsOf(unsigned, "10 a.example, 20 b.example", dane.Absent, dane.Failed), promises.Answer{}, false},
		{"dane because a lookup failed, signed", hostsOf(signed, "10 a.example, 20 b.example", dane.Failed, dane.Absent), promises.Answer{}, false},
		{"port 26", on(26, both), promises.Answer{}, false},
		{"a failed lookup", policy.Facts{Nexthop: domain, MX: policy.MX{Err: &dns.Error{Reason: "SERVFAIL"}}}, promises.Answer{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ok := policy.Observed(c.facts, withDANEAndSTS(), policy.Decide(c.facts, withDANEAndSTS()))
			require.Equal(t, c.ok, ok)
			if ok {
				require.Equal(t, c.want, got)
			}
		})
	}
	ignoring := overridden(withDANEAndSTS(), policy.Override{Ignore: true})
	_, ok := policy.Observed(none, ignoring, policy.Decide(none, ignoring))
	require.False(t, ok, "the operator decided")
}

// A promise that the settings do not look for any more has not vanished: the operator has switched it off.
func TestAMechanismThatIsSwitchedOffHasNotVanished(t *testing.T) {
	t.Parallel()
	plain := by(unsigned, "10 mx.example.com")
	plain.Known.Validates, plain.Validates = true, true
	plain.Hosts[0].DANE.State = dane.Absent
	plain.STS = mtasts.Result{State: mtasts.Absent, Domain: "example.com"}
	for _, c := range []struct {
		name          string
		kinds         []promises.Kind
		dane, sts     bool
		vanished, saw bool
	}{
		{"MTA-STS is off", []promises.Kind{promises.MTASTS}, true, false, false, false},
		{"DANE is off", []promises.Kind{promises.DANE}, false, true, false, false},
		{"both are off", []promises.Kind{promises.MTASTS, promises.DANE}, false, false, false, false},
		{"MTA-STS is off, and the prefix is gone", []promises.Kind{promises.Prefix, promises.MTASTS}, true, false, true, true},
		{"MTA-STS is off, and DANE is gone", []promises.Kind{promises.MTASTS, promises.DANE}, true, false, true, true},
		{"nothing is off", []promises.Kind{promises.MTASTS}, true, true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := withDANEAndSTS()
			o.DANE, o.MTASTS, o.OnVanished = c.dane, c.sts, promises.Hold
			f := remembered(plain, c.kinds...)
			d := policy.Decide(f, o)
			require.Equal(t, c.vanished, d.Vanished)
			require.Equal(t, c.vanished, d.Verdict == policy.Defer)
			a, ok := policy.Observed(f, o, d)
			require.Equal(t, c.saw, ok)
			require.Equal(t, c.saw, a.Held)
		})
	}
}

// A prefix that the settings ignore is neither remembered nor missed.
func TestAPrefixThatTheSettingsIgnoreIsNotAPromise(t *testing.T) {
	t.Parallel()
	o := withDANEAndSTS()
	o.OnVanished = promises.Hold
	known := func(status dns.Status, hosts ...string) policy.Facts {
		f := by(status, hosts...)
		for i := range f.Hosts {
			f.Hosts[i].DANE.State = dane.Absent
		}
		f.STS, f.Known.Relay = mtasts.Result{State: mtasts.Absent, Domain: "example.com"}, true
		return f
	}
	observed := func(f policy.Facts) []promises.Kind {
		a, ok := policy.Observed(f, o, policy.Decide(f, o))
		require.True(t, ok)
		return a.Kinds
	}

	o.IgnoreUnsigned = true
	plain := remembered(known(unsigned, "10 mx.example.com"), promises.Prefix)
	require.Equal(t, "NOTFOUND ", answered(plain, o))
	require.False(t, policy.Decide(plain, o).Vanished)
	_, ok := policy.Observed(plain, o, policy.Decide(plain, o))
	require.False(t, ok, "what is remembered stays")
	require.Empty(t, observed(known(unsigned, "10 starttls-mx.example.com")))
	require.Equal(t, []promises.Kind{promises.Prefix}, observed(known(signed, "10 starttls-mx.example.com")))
	require.True(t, policy.Decide(remembered(known(unsigned, "10 mx.example.com"), promises.MTASTS), o).Vanished)

	o.IgnoreUnsigned, o.IgnoreMixed = false, true
	mixed := known(unsigned, "10 starttls-mx.example.com", "20 mx.example.com")
	require.Empty(t, observed(mixed))
	require.False(t, policy.Decide(remembered(mixed, promises.Prefix), o).Vanished, "the operator ignores what is there")
	require.Equal(t, []promises.Kind{promises.Prefix}, observed(known(unsigned, "10 starttls-mx.example.com")))
}

// While the resolver does not validate, DANE is missing everywhere, which says nothing about a domain. An attacker
// gains nothing by that: the loss of other promises is still noticed, a hold continues, and nothing is forgotten.
func TestDANEHasNotVanishedWhileTheResolverDoesNotValidate(t *testing.T) {
	t.Parallel()
	plain := by(unsigned, "10 mx.example.com")
	plain.Hosts[0].DANE.State = dane.Absent
	plain.STS = mtasts.Result{State: mtasts.Absent, Domain: "example.com"}
	ended := plain
	ended.STS = stsPolicy(mtasts.None)
	running := remembered(plain, promises.DANE)
	running.History.Until = time.Unix(2_000_000_000, 0)
	for _, c := range []struct {
		name     string
		facts    policy.Facts
		lost     bool // whether the promise is missed while the resolver does not validate
		observed bool // whether the answer is remembered
		trusted  bool // whether the promise is missed while the resolver validates
	}{
		{"DANE", remembered(plain, promises.DANE), false, false, true},
		{"a prefix", remembered(plain, promises.Prefix), true, true, true},
		{"MTA-STS", remembered(plain, promises.MTASTS), true, true, true},
		{"a prefix and DANE", remembered(plain, promises.Prefix, promises.DANE), true, true, true},
		{"MTA-STS and DANE", remembered(plain, promises.MTASTS, promises.DANE), true, true, true},
		{"MTA-STS, which the web server ended, and DANE", remembered(ended, promises.MTASTS, promises.DANE), false, false, true},
		{"DANE, held since the resolver validated", running, true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := withDANEAndSTS()
			o.OnVanished = promises.Hold
			for validates, missed := range map[bool]bool{true: c.trusted, false: c.lost} {
				f := c.facts
				f.Known.Validates, f.Validates = true, validates
				d := policy.Decide(f, o)
				require.Equal(t, missed, d.Vanished, validates)
				require.Equal(t, missed, d.Verdict == policy.Defer, validates)
				a, ok := policy.Observed(f, o, d)
				require.Equal(t, missed, a.Held, validates)
				require.Equal(t, validates || c.observed, ok, validates)
			}
		})
	}
	need := policy.Decide(remembered(plain, promises.DANE), withDANEAndSTS()).Need
	require.Equal(t, policy.FactSet{Validates: true}, need.Required)
	need = policy.Decide(remembered(plain, promises.Prefix), withDANEAndSTS()).Need
	require.Empty(t, need.Required, "the self-test says nothing about a prefix")
	shown := by(unsigned, "10 starttls-mx.example.com")
	shown.Hosts[0].DANE.State, shown.STS = dane.Absent, plain.STS
	shown = remembered(shown, promises.DANE)
	d := policy.Decide(shown, withDANEAndSTS())
	require.Empty(t, d.Need.Required)
	a, ok := policy.Observed(shown, withDANEAndSTS(), d)
	require.True(t, ok)
	require.Equal(t, promises.Answer{Kinds: []promises.Kind{promises.Prefix}}, a)
}
