package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// report shows a report, with the dialogues if it is verbose. It does not wrap answers, zone-file lines and commands.
func (s *screen) report(r *report.Report, verbose bool) {
	s.label = "  %-12s"
	s.linef("%s   %s\n", s.bold(cmp.Or(r.Domain, r.Input)), s.verdict(r))
	s.row("resolver", "%s: %s%s", strings.Join(r.Resolver.Servers, " "), r.Resolver.Result,
		part(", ", r.Resolver.Reason))
	s.row("MX RRset", "%s", rrsetWords(r))
	if r.RRset.State == "found" {
		s.row("prefix", "%s", map[string]string{"all": "on all MX hosts", "mixed": "on some MX hosts",
			"none": "on no MX host"}[r.Set])
	}
	for i := range r.MX {
		s.host(&r.MX[i])
		if verbose {
			s.dialogues(&r.MX[i])
		}
	}
	if len(r.MX) > 0 { // otherwise it receives no mail
		s.linef("")
		m := r.MTASTS
		if m.State == "found" || m.State == "absent" {
			m.Why = ""
		}
		s.row("MTA-STS", "%s", stsWords(m))
		s.row("TLSRPT", "%s%s", r.TLSRPT.State, part(", ", r.TLSRPT.Record))
	}
	s.linef("")
	s.answer("tls-policy", r.TLSPolicy)
	s.answer("transport", r.Transport)
	s.findings(r.Findings)
	if len(r.Commands) > 0 {
		s.linef("")
		s.title("By hand")
		for _, c := range r.Commands {
			s.linef("  %s", c)
		}
	}
}

func (s *screen) verdict(r *report.Report) string {
	return map[string]string{
		report.VerdictKept:     s.colour.Paint(text.Green, "keeps its promise"),
		report.VerdictBroken:   s.colour.Paint(text.Red, "does not work as it should"),
		report.VerdictNone:     "no MX host carries a prefix",
		report.VerdictNoMail:   "accepts no mail",
		report.VerdictPromised: s.colour.Paint(text.Yellow, "makes a promise; not tested"),
		report.VerdictUntested: s.colour.Paint(text.Yellow, "could not be tested from here"),
	}[r.Verdict]
}

func rrsetWords(r *report.Report) string {
	if r.RRset.State == "failed" {
		return "failed: " + r.RRset.Error
	}
	words := r.DNSSEC + map[string]string{
		"found":    fmt.Sprintf(", %d host%s, TTL %d", len(r.MX), wordsIf(len(r.MX) != 1, "s"), r.RRset.TTL),
		"implicit": ", none: the domain is its own mail host",
		"null":     ", null MX: the domain accepts no mail",
		"nxdomain": ", the domain does not exist",
	}[r.RRset.State] + part(", at ", r.RRset.Alias)
	if r.RRset.SignatureExpires != nil {
		words += ", signed until " + r.RRset.SignatureExpires.Format(time.DateOnly)
	}
	return words
}

// host shows a host: its addresses and ports as a table, then what they have in common.
func (s *screen) host(h *report.Host) {
	s.linef("")
	s.title(fmt.Sprintf("%d %s", h.Preference, h.Host))
	class := prefix.Of(h.Host)
	if h.Prefix == prefix.None.String() {
		class = prefix.None
	}
	s.row("promises", "%s", class.Promise())
	if h.Valid {
		s.row("addresses", "A %s, AAAA %s%s%s", h.A, h.AAAA, part(", alias of ", h.Alias), part(": ", h.AddressError))
	}
	switch {
	case len(h.Connections) > 0:
		s.connections(h.Connections)
	case len(h.Addresses) > 0:
		s.row("", "%s", strings.Join(h.Addresses, " "))
	}
	shown := map[string]bool{}
	for i := range h.Connections {
		if words := certificateWords(&h.Connections[i]); words != "" && !shown[words] {
			shown[words] = true
			s.row("certificate", "%s", words)
		}
	}
	dane := "port 25 " + tlsaWords(h.TLSA)
	if h.TLSA26 != nil {
		dane += "; implicit TLS " + tlsaWords(*h.TLSA26)
	}
	s.row("DANE", "%s", dane)
	if h.MTASTS != nil {
		s.row("MTA-STS", "%s the host", text.Either(*h.MTASTS, "allows", "does not allow"))
	}
}

// connections shows a table of the tests of a host. The last column appears only if Postfix was asked.
func (s *screen) connections(all []report.Connection) {
	rows := [][]string{{"  ADDRESS", "PORT", "TLS", "DAYS", "RESULT", "POSTFIX"}}
	columns := len(rows[0]) - 1
	for i := range all {
		c, days, verdict := &all[i], "-", "-"
		if c.Certificate != nil {
			days = fmt.Sprint(c.Certificate.DaysLeft)
		}
		if c.Postfix != nil {
			verdict, columns = string(c.Postfix.Verdict), len(rows[0])
		}
		protocol := cmp.Or(strings.TrimPrefix(c.Protocol, "TLS "), "-")
		rows = append(rows, []string{"  " + c.Address, fmt.Sprint(c.Port), protocol, days, s.result(c), verdict})
	}
	for i := range rows {
		rows[i] = rows[i][:columns]
	}
	s.table(rows)
}

// result is a word or two; the findings explain it.
func (s *screen) result(c *report.Connection) string {
	words := c.Cause
	switch {
	case c.Cause == "":
		words = c.Result
	case c.Step == "STARTTLS":
		words = "no STARTTLS"
	case strings.HasPrefix(c.Step, "EHLO"):
		words = c.Step
	}
	return s.colour.Paint(map[string]text.Style{report.ResultOK: text.Green, report.ResultFailed: text.Red,
		report.ResultUntested: text.Yellow}[c.Result], words)
}

func certificateWords(c *report.Connection) string {
	cert := c.Certificate
	if cert == nil {
		return ""
	}
	name := "for " + cert.Matched
	if cert.Matched == "" {
		name = "not for this host, but for " + cmp.Or(strings.Join(cert.Names, " "), "no name")
	}
	return fmt.Sprintf("%s; until %s; %s: %s; %s, %s; %s", name, cert.NotAfter.Format(time.DateOnly),
		text.Either(cert.Trusted, "trusted", "not trusted"), strings.Join(cert.Chain, " < "), cert.Key, cert.Signature,
		c.Cipher)
}

func tlsaWords(d report.TLSA) string {
	words := d.State
	if len(d.Records) > 0 {
		words += fmt.Sprintf(" (%d)", len(d.Records))
	}
	if d.Matches != nil {
		words += text.Either(*d.Matches, ", matches", ", does not match")
	}
	return words
}

func (s *screen) dialogues(h *report.Host) {
	for _, c := range h.Connections {
		s.linef("  %s port %d", c.Address, c.Port)
		for _, said := range c.Dialogue {
			s.linef("    %s", said)
		}
	}
}

func (s *screen) findings(findings []report.Finding) {
	titles := map[report.Severity]string{report.Error: "Errors", report.Warning: "Warnings",
		report.Info: "Good to know", report.Hint: "To publish"}
	styles := map[report.Severity]text.Style{report.Error: text.Red, report.Warning: text.Yellow}
	for i := range findings {
		f := &findings[i]
		if i == 0 || findings[i-1].Severity != f.Severity {
			s.linef("")
			s.title(titles[f.Severity])
		}
		s.linef("  %s%s", s.colour.Paint(styles[f.Severity], f.Code), wordsIf(f.Untested, " (could not be tested)"))
		where := f.Host
		if f.Port != 0 {
			where += fmt.Sprintf(" port %d", f.Port)
		}
		where += part(" at ", strings.Join(f.Addresses, " "))
		s.paragraph("    ", strings.TrimPrefix(where+": "+f.Text, ": "))
		for _, z := range f.Zone {
			s.linef("    %s", z)
		}
	}
}
