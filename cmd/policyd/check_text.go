package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// reportScreen shows reports in 80 columns. Answers of the maps, zone-file lines and commands are not wrapped.
type reportScreen struct {
	// Colour is for terminals.
	Colour text.Palette
	// Verbose shows the dialogues.
	Verbose bool
}

// Write shows a report.
func (s reportScreen) Write(w io.Writer, r *report.Report) error {
	var b strings.Builder
	b.WriteString(s.Colour.Paint(text.Bold, cmp.Or(r.Domain, text.Printable(r.Input))) + "   " + s.verdict(r) + "\n\n")
	line(&b, "resolver", resolverLine(r.Resolver))
	line(&b, "MX RRset", rrsetLine(r))
	if r.RRset.State == "found" {
		line(&b, "prefix", map[string]string{"all": "on all MX hosts", "mixed": "on some MX hosts", "none": "on no MX host"}[r.Set])
	}
	for i := range r.MX {
		s.host(&b, &r.MX[i])
	}
	if r.Domain != "" && r.RRset.State != "failed" {
		b.WriteString("\n")
		line(&b, "MTA-STS", reportedSTS(r.MTASTS))
		line(&b, "TLSRPT", strings.TrimRight(r.TLSRPT.State+", "+r.TLSRPT.Record, ", "))
	}
	b.WriteString("\n")
	s.answer(&b, "tls-policy", r.TLSPolicy)
	s.answer(&b, "transport", r.Transport)
	s.findings(&b, r.Findings)
	if len(r.Commands) > 0 {
		b.WriteString("\n" + s.Colour.Paint(text.Bold, "By hand") + "\n")
		for _, c := range r.Commands {
			b.WriteString("  " + c + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s reportScreen) verdict(r *report.Report) string {
	switch r.Verdict {
	case report.VerdictKept:
		return s.Colour.Paint(text.Green, "keeps its promise")
	case report.VerdictBroken:
		return s.Colour.Paint(text.Red, "does not work as it should")
	case report.VerdictNone:
		return "promises nothing"
	case report.VerdictNoMail:
		return "accepts no mail"
	case report.VerdictPromised:
		return s.Colour.Paint(text.Yellow, "makes a promise; not tested")
	}
	return s.Colour.Paint(text.Yellow, "could not be tested from here")
}

func resolverLine(r report.Resolver) string {
	words := strings.Join(r.Servers, " ") + ": " + r.Result
	if r.Reason != "" {
		words += ", " + r.Reason
	}
	return words
}

func rrsetLine(r *report.Report) string {
	if r.RRset.State == "failed" {
		return "failed: " + r.RRset.Error
	}
	words := r.DNSSEC
	switch r.RRset.State {
	case "found":
		noun := "hosts"
		if len(r.MX) == 1 {
			noun = "host"
		}
		words += fmt.Sprintf(", %d %s, TTL %d", len(r.MX), noun, r.RRset.TTL)
	case "implicit":
		words += ", none: the domain is its own mail host"
	case "null":
		words += ", null MX: the domain accepts no mail"
	case "nxdomain":
		words += ", the domain does not exist"
	}
	if r.RRset.Alias != "" {
		words += ", at " + r.RRset.Alias
	}
	if r.RRset.SignatureExpires != nil {
		words += ", signed until " + r.RRset.SignatureExpires.Format(time.DateOnly)
	}
	return words
}

func reportedSTS(m report.MTASTS) string {
	words := m.State
	if m.Mode != "" {
		words += ", mode " + m.Mode
	}
	if len(m.MX) > 0 {
		words += ", mx " + strings.Join(m.MX, " ")
	}
	if m.Why != "" && m.State != "found" && m.State != "absent" {
		words += ": " + m.Why
	}
	return text.Printable(words)
}

// host shows a host: its addresses and ports as a table, then what they have in common.
func (s reportScreen) host(b *strings.Builder, h *report.Host) {
	fmt.Fprintf(b, "\n%s\n", s.Colour.Paint(text.Bold, fmt.Sprintf("%d %s", h.Preference, h.Host)))
	words := prefix.Of(h.Host).Promise()
	if h.Prefix == prefix.None.String() {
		words = prefix.None.Promise()
	}
	line(b, "promises", words)
	if h.Valid {
		words = "A " + h.A + ", AAAA " + h.AAAA
		if h.Alias != "" {
			words += ", alias of " + h.Alias
		}
		if h.AddressError != "" {
			words += ": " + h.AddressError
		}
		line(b, "addresses", words)
	}
	if len(h.Connections) == 0 && len(h.Addresses) > 0 {
		line(b, "", strings.Join(h.Addresses, " "))
	}
	s.table(b, h)
	var shown []string
	for i := range h.Connections {
		if c := &h.Connections[i]; c.Certificate != nil {
			words := certificateText(c)
			if !slices.Contains(shown, words) {
				shown = append(shown, words)
				line(b, "certificate", words)
			}
		}
	}
	line(b, "DANE", daneLine(h))
	if h.MTASTS != nil {
		line(b, "MTA-STS", map[bool]string{true: "allows the host", false: "does not allow the host"}[*h.MTASTS])
	}
	if s.Verbose {
		s.dialogues(b, h)
	}
}

func (s reportScreen) table(b *strings.Builder, h *report.Host) {
	if len(h.Connections) == 0 {
		return
	}
	const padding = 2
	w := tabwriter.NewWriter(b, 0, 0, padding, ' ', 0)
	asked := slices.ContainsFunc(h.Connections, func(c report.Connection) bool { return c.Postfix != nil })
	header := "  ADDRESS\tPORT\tTLS\tDAYS\tMS\tRESULT"
	if asked {
		header += "\tPOSTFIX"
	}
	_, _ = fmt.Fprintln(w, header)
	for i := range h.Connections {
		c := &h.Connections[i]
		days := "-"
		if c.Certificate != nil {
			days = fmt.Sprint(c.Certificate.DaysLeft)
		}
		var took float64
		for _, step := range c.Steps {
			took += step.Milliseconds
		}
		postfix := ""
		if asked {
			postfix = "\t-"
			if c.Postfix != nil {
				postfix = "\t" + c.Postfix.Verdict
			}
		}
		_, _ = fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%.0f\t%s%s\n", c.Address, c.Port, cmp.Or(strings.ReplaceAll(c.Protocol, "TLS ", ""), "-"), days, took, s.result(c), postfix)
	}
	_ = w.Flush() // a strings.Builder does not fail
}

// result is a word or two; the findings explain it.
func (s reportScreen) result(c *report.Connection) string {
	switch c.Result {
	case report.ResultOK:
		return s.Colour.Paint(text.Green, "ok")
	case report.ResultSkipped:
		return "not tested"
	case report.ResultUntested:
		if c.Cause == string(smtptls.NotJudged) {
			return s.Colour.Paint(text.Yellow, c.Cause)
		}
		return s.Colour.Paint(text.Yellow, "unreachable")
	}
	words := c.Cause
	switch {
	case c.Step == "STARTTLS":
		words = "no STARTTLS"
	case strings.HasPrefix(c.Step, "EHLO"):
		words = c.Step
	}
	return s.Colour.Paint(text.Red, words)
}

func certificateText(c *report.Connection) string {
	cert := c.Certificate
	name := "not for this host, but for " + cmp.Or(strings.Join(cert.Names, " "), "no name")
	if cert.Matched != "" {
		name = "for " + cert.Matched
	}
	trust := "not trusted"
	if cert.Trusted {
		trust = "trusted"
	}
	return fmt.Sprintf("%s; until %s; %s: %s; %s, %s; %s", name, cert.NotAfter.Format(time.DateOnly), trust, strings.Join(cert.Chain, " < "), cert.Key, cert.Signature, c.Cipher)
}

func daneLine(h *report.Host) string {
	words := "port 25 " + tlsaText(h.TLSA)
	if h.TLSA26 != nil {
		words += "; implicit TLS " + tlsaText(*h.TLSA26)
	}
	return words
}

func tlsaText(d report.TLSA) string {
	words := d.State
	if len(d.Records) > 0 {
		words += fmt.Sprintf(" (%d)", len(d.Records))
	}
	if d.Matches != nil {
		words += map[bool]string{true: ", matches", false: ", does not match"}[*d.Matches]
	}
	return words
}

func (s reportScreen) dialogues(b *strings.Builder, h *report.Host) {
	for i := range h.Connections {
		c := &h.Connections[i]
		if len(c.Steps) == 0 {
			continue
		}
		fmt.Fprintf(b, "  %s port %d\n", c.Address, c.Port)
		for _, step := range c.Steps {
			words := fmt.Sprintf("%s: %.1f ms", step.Step, step.Milliseconds)
			if step.Error != "" {
				words += ": " + step.Error
			}
			text.Wrap(b, "    - ", words)
		}
		for _, said := range c.Dialogue {
			b.WriteString("    " + said + "\n")
		}
	}
}

// answer shows a reply as it goes to Postfix, in one line however long.
func (s reportScreen) answer(b *strings.Builder, label string, a report.Answer) {
	colour, normal := map[string]text.Style{"OK": text.Green, "NOTFOUND": ""}[a.Status]
	if !normal {
		colour = text.Red
	}
	fmt.Fprintf(b, "  %-12s%s\n", label, strings.TrimRight(s.Colour.Paint(colour, a.Status)+" "+a.Text, " "))
}

func (s reportScreen) findings(b *strings.Builder, findings []report.Finding) {
	colours := map[report.Severity]text.Style{report.Error: text.Red, report.Warning: text.Yellow, report.Info: "", report.Hint: ""}
	for i := range findings {
		f := &findings[i]
		if i == 0 || findings[i-1].Severity != f.Severity {
			title := map[report.Severity]string{report.Error: "Errors", report.Warning: "Warnings", report.Info: "Good to know", report.Hint: "To publish"}[f.Severity]
			b.WriteString("\n" + s.Colour.Paint(text.Bold, title) + "\n")
		}
		b.WriteString("  " + s.Colour.Paint(colours[f.Severity], f.Code))
		if f.Untested {
			b.WriteString(" (could not be tested)")
		}
		b.WriteString("\n")
		words := f.Text
		if f.Host != "" {
			where := f.Host
			if f.Port != 0 {
				where += fmt.Sprintf(" port %d", f.Port)
			}
			if len(f.Addresses) > 0 {
				where += " at " + strings.Join(f.Addresses, " ")
			}
			words = where + ": " + words
		}
		text.Wrap(b, "    ", words)
		for _, z := range f.Zone {
			b.WriteString("    " + z + "\n")
		}
	}
}

func line(b *strings.Builder, label, words string) {
	text.Wrap(b, fmt.Sprintf("  %-12s", label), words)
}
