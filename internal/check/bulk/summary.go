package bulk

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/prefix"
)

// Summary counts what a scan has found.
type Summary struct {
	Domains, Skipped int
	// Prefixed counts the domains with at least one host of the class.
	Prefixed map[prefix.Class]int
	// Mixed counts the domains with prefixed hosts and others.
	Mixed int
	// Signed counts domains whose MX RRset is secure; SignedPromise those among them with a prefix.
	Signed, SignedPromise int
	// Kept, Broken, None, Promised, NoMail and Untested count the verdicts.
	Kept, Broken, None, Promised, NoMail, Untested int
	// NotDomains, NoSuchDomain and NullMX are the kinds of NoMail: they break no promise.
	NotDomains, NoSuchDomain, NullMX int
	// DANE counts domains with a host that has usable TLSA records, MTASTS those with a policy, or the
	// announcement of one.
	DANE, MTASTS int
	// Exit is the worst exit status.
	Exit int
}

func (s *Summary) count(r *report.Report) {
	s.Domains++
	if r.Verdict != report.VerdictNoMail {
		s.Exit = max(s.Exit, r.Exit())
	}
	for _, c := range prefix.Classes() {
		if slices.ContainsFunc(r.MX, func(h report.Host) bool { return h.Prefix == c.String() }) {
			if s.Prefixed == nil {
				s.Prefixed = map[prefix.Class]int{}
			}
			s.Prefixed[c]++
		}
	}
	usable := slices.ContainsFunc(r.MX, func(h report.Host) bool { return h.TLSA.State == "usable" })
	signed := r.DNSSEC == "secure" && r.RRset.State == "found"
	for _, c := range []struct {
		n   *int
		yes bool
	}{
		{&s.Mixed, r.Set == "mixed"}, {&s.Signed, signed},
		{&s.SignedPromise, signed && r.Set != "none"}, {&s.DANE, usable},
		{&s.MTASTS, r.MTASTS.State == "found" || r.MTASTS.State == "announced"},
		{&s.Kept, r.Verdict == report.VerdictKept}, {&s.Broken, r.Verdict == report.VerdictBroken}, {&s.None, r.Verdict == report.VerdictNone},
		{&s.Promised, r.Verdict == report.VerdictPromised}, {&s.Untested, r.Verdict == report.VerdictUntested},
		{&s.NoMail, r.Verdict == report.VerdictNoMail}, {&s.NotDomains, r.Domain == ""}, {&s.NoSuchDomain, r.RRset.State == "nxdomain"},
		{&s.NullMX, r.RRset.State == "null"},
	} {
		if c.yes {
			*c.n++
		}
	}
}

// Write shows the summary.
func (s *Summary) Write(w io.Writer) error {
	const padding = 2
	t := tabwriter.NewWriter(w, 0, 0, padding, ' ', tabwriter.AlignRight)
	type row struct {
		n    int
		what string
	}
	rows := []row{{s.Domains, "domains checked"}, {s.Skipped, "left out: done before"}}
	for _, c := range prefix.Classes() {
		rows = append(rows, row{s.Prefixed[c], "with the prefix " + c.Prefix()})
	}
	for _, row := range append(rows, []row{
		{s.Mixed, "with a prefix on some hosts only"},
		{s.Signed, "with a signed MX RRset"}, {s.SignedPromise, "with a prefix and a signed MX RRset"},
		{s.Kept, "keep their promise"}, {s.Broken, "do not work as they should"}, {s.Promised, "promise, and were not tested"},
		{s.None, "promise nothing"}, {s.Untested, "could not be tested from here"},
		{s.NoSuchDomain, "do not exist"}, {s.NullMX, "accept no mail (null MX)"}, {s.NotDomains, "are not domain names"},
		{s.DANE, "with DANE"}, {s.MTASTS, "with MTA-STS"},
	}...) {
		if _, err := fmt.Fprintf(t, "%d\t %s\n", row.n, row.what); err != nil {
			return err
		}
	}
	return t.Flush()
}
