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
	Counts           map[string]int // the number of domains by kind.words
	Exit             int            // the worst exit status; a domain that accepts no mail breaks no promise
}

// kind is one of the kinds of domains that are counted.
type kind struct {
	words string // shown by Write
	is    func(r *report.Report) bool
}

// kinds returns the kinds in the order of the summary.
func kinds() []kind {
	verdict := func(v string) func(*report.Report) bool { return func(r *report.Report) bool { return r.Verdict == v } }
	signed := func(r *report.Report) bool { return r.DNSSEC == "secure" && r.RRset.State == "found" }
	host := func(has func(report.Host) bool) func(*report.Report) bool {
		return func(r *report.Report) bool { return slices.ContainsFunc(r.MX, has) }
	}
	var all []kind
	for _, c := range prefix.Classes() {
		all = append(all, kind{"with the prefix " + c.Prefix(),
			host(func(h report.Host) bool { return h.Prefix == c.String() })})
	}
	return append(all,
		kind{"with a prefix on some hosts only", func(r *report.Report) bool { return r.Set == "mixed" }},
		kind{"with a signed MX RRset", signed},
		kind{"with a prefix and a signed MX RRset",
			func(r *report.Report) bool { return signed(r) && r.Set != "none" }},
		kind{"keep their promise", verdict(report.VerdictKept)},
		kind{"do not work as they should", verdict(report.VerdictBroken)},
		kind{"promise, and were not tested", verdict(report.VerdictPromised)},
		kind{"have no prefix", verdict(report.VerdictNone)},
		kind{"could not be tested from here", verdict(report.VerdictUntested)},
		kind{"do not exist", func(r *report.Report) bool { return r.RRset.State == "nxdomain" }},
		kind{"accept no mail (null MX)", func(r *report.Report) bool { return r.RRset.State == "null" }},
		kind{"are not domain names", func(r *report.Report) bool { return r.Domain == "" }},
		kind{"with DANE", host(func(h report.Host) bool { return h.TLSA.State == "usable" })},
		kind{"with MTA-STS",
			func(r *report.Report) bool { return r.MTASTS.State == "found" || r.MTASTS.State == "announced" }},
	)
}

func (s *Summary) count(r *report.Report) {
	s.Domains++
	if r.Verdict != report.VerdictNoMail {
		s.Exit = max(s.Exit, r.Exit())
	}
	for _, k := range kinds() {
		if k.is(r) {
			s.Counts[k.words]++
		}
	}
}

// Write writes the summary as a table.
func (s *Summary) Write(w io.Writer) error {
	const padding = 2
	t := tabwriter.NewWriter(w, 0, 0, padding, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(t, "%d\t domains checked\n%d\t left out: done before\n", s.Domains, s.Skipped)
	for _, k := range kinds() {
		_, _ = fmt.Fprintf(t, "%d\t %s\n", s.Counts[k.words], k.words)
	}
	return t.Flush() // writes all lines, and returns their error
}
