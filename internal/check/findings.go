package check

import (
	"cmp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// find adds a finding. f has what it is about, nothing for the domain. Its text is the meaning of the code, with the
// detail, if there is one. One that is there already for another address is about that address too.
func (d *domain) find(code string, f report.Finding, detail string) {
	c := report.CodeOf(code)
	f.Code, f.Severity, f.Untested, f.Host, f.Text = code, c.Severity, c.Untested, text.Printable(f.Host), c.Meaning
	if detail != "" {
		f.Text = strings.TrimSuffix(c.Meaning, ".") + ": " + detail
	}
	if f.Severity == report.Error && promiseOnly(code) && !d.promises(f.Host) && !d.requires(f.Host, code) {
		f.Severity = report.Info // it has promised nothing
	}
	for i := range d.Findings {
		same := &d.Findings[i]
		if same.Code == f.Code && same.Host == f.Host && same.Port == f.Port && same.Text == f.Text {
			same.Addresses = append(same.Addresses, f.Addresses...)
			return
		}
	}
	d.Findings = append(d.Findings, f)
}

// promises reports whether the name of a host carries a prefix that counts: an implicit MX never promises anything.
func (d *domain) promises(name string) bool {
	return prefix.Of(name) != prefix.None && d.RRset.State != "implicit"
}

// promiseOnly reports whether a code is about what a prefix promises, and nothing without one.
func promiseOnly(code string) bool {
	return strings.HasPrefix(code, "port25-") || strings.HasPrefix(code, "port26-") || code == "host-no-address" ||
		code == "host-address-bogus"
}

// essential reports whether the domain cannot be judged where this could not be tested.
func (d *domain) essential(f *report.Finding) bool {
	if promiseOnly(f.Code) || f.Code == "host-lookup-failed" {
		return f.Untested && d.promises(f.Host)
	}
	return f.Untested && f.Code != "resolver-not-validating" && f.Code != "address-unreachable"
}

// conclude makes the verdict of the findings and sorts them.
func (d *domain) conclude() {
	broken := slices.ContainsFunc(d.Findings, func(f report.Finding) bool { return f.Severity == report.Error })
	untested := slices.ContainsFunc(d.Findings, func(f report.Finding) bool { return d.essential(&f) })
	switch {
	case d.Domain == "" || d.RRset.State == "nxdomain" || d.RRset.State == "null":
		d.Verdict = report.VerdictNoMail
	case broken:
		d.Verdict = report.VerdictBroken
	case untested:
		d.Verdict = report.VerdictUntested
	case d.Set == "none":
		d.Verdict = report.VerdictNone
	case d.o.NoConnect:
		d.Verdict = report.VerdictPromised
	default:
		d.Verdict = report.VerdictKept
		d.find("promise-kept", report.Finding{}, "")
	}
	order := []report.Severity{report.Error, report.Warning, report.Info, report.Hint}
	slices.SortStableFunc(d.Findings, func(a, b report.Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	for _, h := range d.hosts {
		d.MX = append(d.MX, h.Host)
	}
}
