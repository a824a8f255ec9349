package lookup

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/report"
)

// Mail to a domain moves from port 25 to the port of implicit TLS when a probe finds it open; it stays one next hop.
func TestANextHopIsRecordedWithoutItsPort(t *testing.T) {
	t.Parallel()
	d := policy.Decision{Verdict: policy.None}
	for _, c := range []struct {
		next     policy.Nexthop
		name     string
		implicit bool
	}{
		{policy.Nexthop{Name: "bank.example", Port: 25}, "bank.example", false},
		{policy.Nexthop{Name: "bank.example", Port: 26}, "bank.example", true},
		{policy.Nexthop{Name: "bank.example", Port: 2626}, "bank.example", true},
		{policy.Nexthop{Name: "smtps-mx.bank.example", Host: true, Port: 26}, "[smtps-mx.bank.example]", true},
	} {
		require.Equal(t, report.Lookup{Nexthop: c.name, Outcome: report.AsBefore, ImplicitTLS: c.implicit}, reportEntry(c.next, &d))
	}
}

// A policy is recorded as the outcome that its source stands for.
func TestThePolicyOfEachSourceIsRecorded(t *testing.T) {
	t.Parallel()
	for reason, want := range map[policy.Reason]report.Outcome{
		policy.ReasonOverride: report.Override, policy.ReasonDANEFull: report.DANE,
		policy.ReasonPrefixAll: report.Prefix, policy.ReasonSTSEnforce: report.MTASTS,
	} {
		d := policy.Decision{Verdict: policy.Apply, Reason: reason}
		require.Equal(t, want, reportEntry(policy.Nexthop{Name: "bank.example", Port: 25}, &d).Outcome)
		d.Verdict = policy.None
		require.Equal(t, report.AsBefore, reportEntry(policy.Nexthop{Name: "bank.example", Port: 25}, &d).Outcome)
	}
}
