package check

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// about is what a finding is about. The zero about is the domain.
type about struct {
	host string
	addr netip.Addr
	port uint16
	zone []string
}

// find adds a finding. One that is there already for another address is about that address too.
func (d *domain) find(name string, a about, words string) {
	c := report.CodeOf(name)
	f := report.Finding{Code: name, Severity: c.Severity, Untested: c.Untested, Host: text.Printable(a.host),
		Port: a.port, Text: words, Zone: a.zone}
	if a.addr.IsValid() {
		f.Addresses = []string{a.addr.String()}
	}
	if f.Severity == report.Error && f.Host != "" && promiseOnly(name) && class(a.host) == prefix.None {
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

// promiseOnly reports whether a code is about what a prefix promises, and nothing without one.
func promiseOnly(name string) bool {
	return strings.HasPrefix(name, "port25-") || strings.HasPrefix(name, "port26-") || name == "host-no-address" ||
		name == "host-address-bogus"
}

// essential reports whether the domain cannot be judged where this could not be tested.
func essential(f *report.Finding) bool {
	switch f.Code {
	case "resolver-not-validating", "address-unreachable":
		return false
	case "port25-untested", "port26-untested", "port25-not-judged", "port26-not-judged", "host-lookup-failed":
		return class(f.Host) != prefix.None
	}
	return f.Untested
}

// conclude sorts the findings and makes the verdict of them.
func (d *domain) conclude() {
	slices.SortStableFunc(d.Findings,
		func(a, b report.Finding) int { return cmp.Compare(rank(a.Severity), rank(b.Severity)) })
	d.Verdict = report.VerdictKept
	if d.o.NoConnect {
		d.Verdict = report.VerdictPromised
	}
	if d.Set == "none" {
		d.Verdict = report.VerdictNone
	}
	for i := range d.Findings {
		switch f := &d.Findings[i]; {
		case f.Severity == report.Error:
			d.Verdict = report.VerdictBroken
		case essential(f) && d.Verdict != report.VerdictBroken:
			d.Verdict = report.VerdictUntested
		}
	}
	if d.Domain == "" || d.RRset.State == "nxdomain" || d.RRset.State == "null" {
		d.Verdict = report.VerdictNoMail
	}
	for _, h := range d.hosts {
		d.MX = append(d.MX, h.Host)
	}
	d.commands()
}

func rank(s report.Severity) int {
	return slices.Index([]report.Severity{report.Error, report.Warning, report.Info, report.Hint}, s)
}
