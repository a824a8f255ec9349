package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// shower prints human-readable output, and notes about it to standard error.
type shower struct {
	out, notes io.Writer
	colour     text.Palette
	width      int // of the terminal; 0 means that lines are not cut
	port       int // of implicit TLS; for explanations
}

func showerFor(cmd *cobra.Command) shower {
	out := cmd.OutOrStdout()
	return shower{out: out, notes: cmd.ErrOrStderr(), colour: palette(out), width: widthOf(out)}
}

func (s shower) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(s.out, format, args...)
	return err
}

func (s shower) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(s.notes, "policyd: "+format+"\n", args...)
}

// list prints a list of n entries, and notes that it is empty or was cut off.
func (s shower) list(text string, more bool, n int, what string) error {
	switch {
	case n == 0:
		s.notef("no %s", what)
	case more:
		s.notef("more than %d %s: narrow the list with --match or raise --limit", n, what)
	}
	return s.printf("%s", text)
}

// explanation shows one next hop, after an empty line if others came before.
func (s shower) explanation(x lookup.Explanation, another bool) error {
	var b strings.Builder
	if another {
		b.WriteString("\n")
	}
	text.Wrap(&b, "", summary(x))
	b.WriteString("\n" + s.colour.Paint(text.Bold, text.Printable(x.Nexthop)))
	switch {
	case strings.HasPrefix(x.Nexthop, "["):
		// This very host, whatever the MX RRset is.
	case len(x.MX) > 0:
		b.WriteString("   MX RRset: " + x.DNSSEC)
	case x.DNSSEC != dns.Indeterminate.String():
		b.WriteString("   MX RRset: " + x.DNSSEC + ", no hosts")
	}
	b.WriteString("\n")
	if len(x.MX) > 0 {
		b.WriteString("\n")
		s.mxTable(&b, x)
	}
	if x.MTASTS != nil {
		b.WriteString("\n")
		text.Wrap(&b, "MTA-STS     ", stsLine(*x.MTASTS))
	}
	b.WriteString("\n")
	text.Wrap(&b, "decided by  ", text.Printable(x.Source))
	s.answer(&b, "tls-policy  ", x.TLSPolicy)
	if x.WouldTLSPolicy != x.TLSPolicy {
		s.answer(&b, "  would be  ", x.WouldTLSPolicy)
	}
	if x.TLSPolicyTLSRPT != x.TLSPolicy {
		s.answer(&b, "tls-policy-tlsrpt  ", x.TLSPolicyTLSRPT)
	}
	s.answer(&b, "transport   ", x.Transport)
	if x.WouldTransport != x.Transport {
		s.answer(&b, "  would be  ", x.WouldTransport)
	}
	b.WriteString("\n")
	list(&b, "tls-policy, why", x.Why)
	list(&b, "transport, why", x.WhyTransport)
	return s.printf("%s", b.String())
}

func (s shower) mxTable(b *strings.Builder, x lookup.Explanation) {
	const padding = 2
	w := tabwriter.NewWriter(b, 0, 0, padding, ' ', 0)
	_, _ = fmt.Fprintln(w, "PREF\tHOST\tPREFIX\tDNSSEC\tDANE\tPROBE")
	for _, h := range x.MX {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", h.Preference, text.Printable(h.Host), h.Prefix, dash(h.DNSSEC), dash(s.daneCell(h)), dash(probeCell(h)))
	}
	_ = w.Flush() // a strings.Builder does not fail
}

func (s shower) daneCell(h lookup.MXHost) string {
	if h.DANE26 != "" && h.DANE26 != h.DANE {
		return fmt.Sprintf("%s, on %d %s", h.DANE, s.port, h.DANE26)
	}
	return h.DANE
}

func probeCell(h lookup.MXHost) string {
	if h.ProbeCause != "" {
		return h.Probe + ": " + h.ProbeCause
	}
	return h.Probe
}

func dash(s string) string {
	if s == "" || s == dns.Indeterminate.String() {
		return "-"
	}
	return text.Printable(s)
}

func stsLine(p lookup.STSPolicy) string {
	words := p.State
	if p.Mode != "" {
		words += ", mode " + p.Mode
	}
	if len(p.MX) > 0 {
		words += ", mx " + strings.Join(p.MX, " ")
	}
	if p.Why != "" {
		words += ": " + p.Why
	}
	return text.Printable(words)
}

// answer shows a reply as it goes to Postfix, in one line however long: a byte-for-byte answer is not wrapped.
func (s shower) answer(b *strings.Builder, label string, a lookup.Answer) {
	reply, _ := socketmap.ParseReply(a.Status + " " + a.Text) // anything else is shown as TEMP
	words := reply.String()
	word, rest, _ := strings.Cut(words, " ")
	colour := text.Red
	switch reply.Status {
	case socketmap.StatusOK:
		colour = text.Green
	case socketmap.StatusNotFound:
		colour = ""
	case socketmap.StatusTemp, socketmap.StatusTimeout, socketmap.StatusPerm:
	}
	b.WriteString(label + s.colour.Paint(colour, word) + strings.TrimRight(" "+rest, " ") + "\n")
}

func list(b *strings.Builder, title string, why []string) {
	b.WriteString(title + ":\n")
	for _, line := range why {
		text.Wrap(b, "  - ", text.Printable(line))
	}
}
