package lookup

import (
	"slices"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/prefix"
)

// recorded returns a decision of the TLS policy for the report. It is the same in every mode. A next hop is the same
// one on port 25 and on the port of implicit TLS: mail uses the latter as soon as a probe found it open.
func recorded(next policy.Nexthop, d *policy.Decision) report.Lookup {
	l := report.Lookup{Outcome: report.AsBefore, ImplicitTLS: next.Port != policy.SMTPPort}
	next.Port = policy.SMTPPort
	l.Nexthop = next.String()
	switch {
	case d.Verdict == policy.None:
	case d.Verdict != policy.Apply:
		l.Outcome, l.Reason = report.Wait, d.Failure
	case d.Source == policy.SourceDANE:
		l.Outcome = report.DANE
	case d.Source == policy.SourcePrefix:
		l.Outcome = report.Prefix
		l.Promised = !slices.ContainsFunc(d.TLS.Match, func(host string) bool { return !prefix.Of(host).ImplicitTLS() })
	case d.Source == policy.SourceMTASTS:
		l.Outcome = report.MTASTS
	case d.Source == policy.SourceOverride:
		l.Outcome = report.Override
	}
	return l
}
