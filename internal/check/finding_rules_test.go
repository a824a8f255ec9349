package check

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/testkit"
)

func TestMTASTSAndTheHosts(t *testing.T) {
	t.Parallel()
	found := func(mode mtasts.Mode, mx ...string) mtasts.Result {
		return mtasts.Result{State: mtasts.Found, Policy: mtasts.Policy{Mode: mode, MX: mx}}
	}
	for name, c := range map[string]struct {
		sts   mtasts.Result
		codes []string
		first *bool
	}{
		"no policy":                    {mtasts.Result{State: mtasts.Absent}, []string{}, nil},
		"enforced, both hosts":         {found(mtasts.Enforce, "*.example.com"), []string{}, new(true)},
		"enforced, the previous names": {found(mtasts.Enforce, "mx1.example.com", "mx2.example.com"), []string{"mta-sts-excludes-all"}, new(false)},
		"enforced, one host":           {found(mtasts.Enforce, "starttls-a.example.com"), []string{"mta-sts-excludes-host"}, new(true)},
		"testing":                      {found(mtasts.Testing, "*.example.com"), []string{"mta-sts-testing"}, new(true)},
		"testing, the previous names":  {found(mtasts.Testing, "mx1.example.com"), []string{"mta-sts-testing", "mta-sts-excludes-host", "mta-sts-excludes-host"}, new(false)},
		"none":                         {found(mtasts.None), []string{}, nil},
		"cannot be had":                {mtasts.Result{State: mtasts.Failed, Why: "404"}, []string{"mta-sts-invalid"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &domain{Checker: &Checker{}, facts: &policy.Facts{STS: c.sts}}
			for _, name := range []string{"starttls-a.example.com", "starttls-b.example.com"} {
				d.hosts = append(d.hosts, &host{report: report.Host{Host: name}})
			}
			d.judgeMTASTS()
			codes := []string{}
			for _, f := range d.report.Findings {
				codes = append(codes, f.Code)
			}
			require.Equal(t, c.codes, codes)
			require.Equal(t, c.first, d.hosts[0].report.MTASTS)
		})
	}
}

func TestFindingsOfOneKindAreOne(t *testing.T) {
	t.Parallel()
	d := &domain{Checker: &Checker{}}
	for _, a := range []string{"192.0.2.1", "192.0.2.2"} {
		d.find("port25-refused", report.Finding{Host: "starttls-a.example.com", Addresses: []string{a}, Port: 25}, "connection refused")
	}
	d.find("port25-refused", report.Finding{Host: "mx.example.com", Addresses: []string{"192.0.2.3"}, Port: 25}, "connection refused")
	require.Len(t, d.report.Findings, 2)
	require.Equal(t, []string{"192.0.2.1", "192.0.2.2"}, d.report.Findings[0].Addresses)
	require.Equal(t, report.Error, d.report.Findings[0].Severity)
	require.Equal(t, report.Info, d.report.Findings[1].Severity, "a host without a prefix has promised nothing")
}

func TestDialoguesAreForgotten(t *testing.T) {
	t.Parallel()
	e := newEndpoints()
	refusing := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testkit.Port(t))
	for i := range 3 * maxKnown {
		e.runDialogue(t.Context(), smtptls.Dialogue{Host: fmt.Sprintf("starttls-%d.example.com", i), Addr: refusing})
	}
	known := 0
	for i := range e.places {
		known += len(e.places[i].known)
	}
	require.Equal(t, maxKnown, known)
}

func TestWords(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]bool{"smtps": true, "smtps-": true, "smtps_a": true, "starttls": true, "smtpsgate": false, "xsmtps-a": false, "mx": false} {
		require.Equal(t, want, looksPrefixed(label), label)
	}
	now := time.Now()
	require.Equal(t, 0, daysLeft(now.Add(time.Hour), now))
	require.Equal(t, -1, daysLeft(now.Add(-time.Hour), now))
}

// A host without a prefix is broken too if senders defer mail because of MTA-STS or DANE.
func TestErrorsOfAHostWithoutAPrefix(t *testing.T) {
	t.Parallel()
	const mx, code, certificate = "mx.example.com", "port25-starttls-missing", "port25-certificate-name"
	enforced := policy.TLSPolicy{Level: policy.LevelSecure, Match: []string{mx}}
	for name, c := range map[string]struct {
		tls  policy.TLSPolicy
		dane dane.State
		code string
		want report.Severity
	}{
		"nothing is promised":                     {policy.TLSPolicy{}, dane.Absent, code, report.Info},
		"the policy of the domain allows another": {policy.TLSPolicy{Level: policy.LevelSecure, Match: []string{"b.example"}}, dane.Absent, code, report.Info},
		"MTA-STS":                           {enforced, dane.Absent, code, report.Error},
		"MTA-STS, certificate":              {enforced, dane.Absent, certificate, report.Error},
		"MTA-STS, no address":               {enforced, dane.Absent, "host-no-address", report.Info},
		"TLSA records":                      {policy.TLSPolicy{Level: policy.LevelDANEOnly}, dane.Usable, code, report.Error},
		"TLSA records, certificate":         {policy.TLSPolicy{Level: policy.LevelDANEOnly}, dane.Usable, certificate, report.Info},
		"TLSA records, verdict of Postfix":  {policy.TLSPolicy{Level: policy.LevelDANEOnly}, dane.Usable, "port25-postfix", report.Info},
		"unusable TLSA records require TLS": {policy.TLSPolicy{Level: policy.LevelDANE}, dane.Unusable, code, report.Error},
	} {
		d := &domain{decision: policy.Decision{TLS: c.tls},
			hosts: []*host{{report: report.Host{Host: mx, TLSA: showTLSA(dane.Result{State: c.dane})}}}}
		d.find(c.code, report.Finding{Host: mx}, "")
		require.Equal(t, c.want, d.report.Findings[0].Severity, name)
	}
}

// What a domain promises by MTA-STS or DANE, without a prefix, must be tested too before the check calls it sound.
func TestEssentialTests(t *testing.T) {
	t.Parallel()
	const mx = "mx.example.com"
	none := policy.Decision{Verdict: policy.None}
	enforced := policy.Decision{Verdict: policy.Apply, TLS: policy.TLSPolicy{Level: policy.LevelSecure, Match: []string{mx}}}
	for name, c := range map[string]struct {
		decision policy.Decision
		dane     dane.State
		code     string
		want     bool
	}{
		"nothing is promised":           {none, dane.Absent, "port25-untested", false},
		"nothing, and no address known": {none, dane.Absent, "host-lookup-failed", false},
		"MTA-STS":                       {enforced, dane.Absent, "port25-untested", true},
		"MTA-STS, TLS of another kind":  {enforced, dane.Absent, "port25-not-judged", true},
		"MTA-STS, no address known":     {enforced, dane.Absent, "host-lookup-failed", true},
		"MTA-STS, one address of two":   {enforced, dane.Absent, "address-unreachable", false},
		"TLSA records":                  {none, dane.Usable, "port25-untested", true},
		"unusable TLSA records":         {none, dane.Unusable, "port25-untested", true},
		"mail waits":                    {policy.Decision{}, dane.Failed, "host-lookup-failed", true},
	} {
		d := &domain{decision: c.decision,
			hosts: []*host{{report: report.Host{Host: mx, TLSA: showTLSA(dane.Result{State: c.dane})}}}}
		require.Equal(t, c.want, d.essential(&report.Finding{Code: c.code, Host: mx, Untested: true}), name)
	}
}
