package check

import (
	"cmp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// find adds a finding with this code to f, which has the host, the addresses and the port (nothing for the domain) and
// the lines for a zone file. The text is the meaning of the code, with the detail if there is one. If only the
// addresses differ from an earlier finding, they are added to the earlier one.
func (d *domain) find(code string, f report.Finding, detail string) {
	c := report.CodeOf(code)
	f.Code, f.Severity, f.Untested, f.Text = code, c.Severity, c.Untested, c.Meaning
	f.Host = text.Printable(f.Host)
	if detail != "" {
		f.Text = strings.TrimSuffix(c.Meaning, ".") + ": " + detail
	}
	if f.Severity == report.Error && promiseOnly(code) && !d.promises(f.Host) && !d.requires(f.Host, code) {
		f.Severity = report.Info // it has promised nothing
	}
	for i := range d.report.Findings {
		same := &d.report.Findings[i]
		if same.Code == f.Code && same.Host == f.Host && same.Port == f.Port && same.Text == f.Text {
			same.Addresses = append(same.Addresses, f.Addresses...)
			return
		}
	}
	d.report.Findings = append(d.report.Findings, f)
}

// promises reports whether the name of a host carries a prefix that counts: an implicit MX never promises anything.
func (d *domain) promises(name string) bool {
	return prefix.Of(name) != prefix.None && d.report.RRset.State != "implicit"
}

// promiseOnly reports whether a code matters only for a host that has promised something.
func promiseOnly(code string) bool {
	return strings.HasPrefix(code, "port25-") || strings.HasPrefix(code, "port26-") || code == "host-no-address" ||
		code == "host-address-bogus"
}

// requires reports whether senders defer mail for a host because of an error, whatever its name: MTA-STS or DANE (even
// with unusable records) requires TLS from it, and MTA-STS also a valid certificate.
func (d *domain) requires(name, code string) bool {
	if !strings.HasPrefix(code, "port25-") {
		return false
	}
	aboutCertificate := strings.HasPrefix(code, "port25-certificate-") || code == "port25-postfix"
	hasTLSA := func(h *host) bool { // usable or unusable
		return h.report.Host == name && strings.HasSuffix(h.report.TLSA.State, "usable")
	}
	return slices.Contains(d.decision.TLS.Match, name) || !aboutCertificate && slices.ContainsFunc(d.hosts, hasTLSA)
}

// essential reports whether f is a test that could not be made and without which the domain cannot be judged.
func (d *domain) essential(f *report.Finding) bool {
	if promiseOnly(f.Code) || f.Code == "host-lookup-failed" {
		return f.Untested && (d.promises(f.Host) || d.requires(f.Host, "port25-") || d.decision.Verdict == policy.Defer)
	}
	return f.Untested && f.Code != "resolver-not-validating" && f.Code != "address-unreachable"
}

// conclude derives the verdict from the findings, sorts them, and adds the hosts to the report.
func (d *domain) conclude() {
	broken := slices.ContainsFunc(d.report.Findings, func(f report.Finding) bool { return f.Severity == report.Error })
	untested := slices.ContainsFunc(d.report.Findings, func(f report.Finding) bool { return d.essential(&f) })
	switch {
	case d.report.Domain == "" || d.report.RRset.State == "nxdomain" || d.report.RRset.State == "null":
		d.report.Verdict = report.VerdictNoMail
	case broken:
		d.report.Verdict = report.VerdictBroken
	case untested:
		d.report.Verdict = report.VerdictUntested
	case d.report.Set == "none":
		d.report.Verdict = report.VerdictNone
	case d.options.NoConnect:
		d.report.Verdict = report.VerdictPromised
	default:
		d.report.Verdict = report.VerdictKept
		d.find("promise-kept", report.Finding{}, "")
	}
	order := []report.Severity{report.Error, report.Warning, report.Info, report.Hint}
	slices.SortStableFunc(d.report.Findings, func(a, b report.Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	for _, h := range d.hosts {
		d.report.MX = append(d.report.MX, h.report)
	}
}
