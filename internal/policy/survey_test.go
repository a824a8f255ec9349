package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
)

// Whatever decides, the reasons cover each of the three mechanisms.
func TestSurveyNamesAllThreeMechanisms(t *testing.T) {
	t.Parallel()
	all := with(func(o *policy.Options) { o.DANE, o.MTASTS = true, true })
	facts := func(d dane.State, sts mtasts.Mode, mx ...string) policy.Facts {
		f := by(signed, mx...)
		for i := range f.Hosts {
			f.Hosts[i].DANE = dane.Result{State: d}
		}
		f.STS = mtasts.Result{State: mtasts.Absent}
		if sts != "" {
			f.STS = mtasts.Result{State: mtasts.Found, ID: "1", Policy: mtasts.Policy{Mode: sts, MX: []string{"*.example.com"}}}
		}
		return f
	}
	const (
		plain, s    = "10 mx.example.com", "10 smtps-s.example.com"
		noDANE      = "DANE: no MX host that can be reached has secure TLSA records for port 25"
		fullDANE    = "DANE: every MX host that can be reached has secure TLSA records for port 25"
		noPrefix    = "prefix: no MX host carries one for port 25"
		everyPrefix = "every MX host carries a prefix"
		noSTS       = "MTA-STS: the domain announces no policy"
	)
	for _, c := range []struct {
		name    string
		facts   policy.Facts
		options policy.Options
		want    []string
	}{
		{"none", facts(dane.Absent, "", plain), all, []string{noDANE, noSTS, noPrefix}},
		{"prefix", facts(dane.Absent, "", s), all, []string{noDANE, everyPrefix, noSTS}},
		{"prefix, with a policy for tests", facts(dane.Absent, mtasts.Testing, s), all, []string{noDANE, everyPrefix, "MTA-STS: the policy has mode testing: nothing is enforced"}},
		{"prefix, and MTA-STS agrees", facts(dane.Absent, mtasts.Enforce, s), all, []string{noDANE, everyPrefix, "mta-sts alone would have answered: secure match=smtps-s.example.com servername=hostname"}},
		{"MTA-STS", facts(dane.Absent, mtasts.Enforce, plain), all, []string{noDANE, "MTA-STS: the policy is enforced, id 1", noPrefix}},
		{"DANE", facts(dane.Usable, "", plain), all, []string{fullDANE, noPrefix, noSTS}},
		{"DANE before both", facts(dane.Usable, mtasts.Enforce, s), all, []string{
			fullDANE,
			"prefix alone would have answered: secure match=smtps-s.example.com servername=hostname",
			"mta-sts alone would have answered: secure match=smtps-s.example.com servername=hostname",
		}},
		{"both switched off", facts(dane.Usable, mtasts.Enforce, s), defaults(), []string{everyPrefix, "DANE: switched off, dane = false", "MTA-STS: switched off, mta_sts = false"}},
		{"an override before all", facts(dane.Usable, "", plain), overridden(all, policy.Override{Ignore: true}), []string{
			"the overrides file has a line for example.com", "dane alone would have answered: dane-only", noPrefix, noSTS,
		}},
		{"no host to report on", by(signed), all, policy.Decide(by(signed), all).Why},
		{"[host] without a prefix", with1(host("mx.example.com", 25), func(f *policy.Facts) { f.Hosts[0].DANE.State = dane.Absent }), all, []string{noDANE, noPrefix}},
		{"[host] with a prefix", with1(host("starttls-a.example.com", 25), func(f *policy.Facts) { f.Hosts[0].DANE.State = dane.Absent }), all, []string{noDANE, "the next hop is a host whose name carries a prefix"}},
		{"[host] on port 26 with a prefix for port 25", with1(host("starttls-a.example.com", 26), func(f *policy.Facts) { f.Hosts[0].DANE.State = dane.Absent }), all, []string{"DANE: no MX host that can be reached has secure TLSA records for port 26", "prefix: no MX host carries one for port 26"}},
		{"not known", failed("SERVFAIL"), all, []string{"MX lookup for example.com failed: SERVFAIL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, policy.Survey(c.facts, c.options).Why)
		})
	}
}
