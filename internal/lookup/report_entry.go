package lookup

import (
	"slices"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/prefix"
)

// reportEntry returns the decision of a TLS-policy lookup in the form of the report. It is the same in every mode. A
// next hop is the same one on port 25 and on the port of implicit TLS: mail uses the latter as soon as a probe found it
// open.
func reportEntry(next policy.Nexthop, d *policy.Decision) report.Lookup {
	l := report.Lookup{Outcome: report.AsBefore, ImplicitTLS: next.Port != prefix.SMTPPort}
	next.Port = prefix.SMTPPort
	l.Nexthop = next.String()
	switch d.Verdict {
	case policy.None:
	case policy.Defer:
		l.Outcome, l.Reason = report.Wait, d.Failure
	case policy.Apply:
		l.Outcome = report.Outcome(d.Source()) // the outcomes of a policy have the names of its sources
		l.Promised = l.Outcome == report.Prefix &&
			!slices.ContainsFunc(d.TLS.Match, func(host string) bool { return !prefix.Of(host).ImplicitTLS() })
	}
	return l
}
