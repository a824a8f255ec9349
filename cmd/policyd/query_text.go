package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/resolver"
	"github.com/policyd/policyd/socketmap"
)

const columns = 80

// shower shows explanations to people.
type shower struct {
	out    io.Writer
	colour bool
	port   int // of implicit TLS; for explanations
}

// explanation shows one next hop, after an empty line if others came before.
func (s shower) explanation(x lookup.Explanation, another bool) error {
	var b strings.Builder
	if another {
		b.WriteString("\n")
	}
	name := plain(x.Nexthop)
	if name == "" {
		name = "(no domain)"
	}
	b.WriteString(s.paint(bold, name))
	switch {
	case strings.HasPrefix(x.Nexthop, "["):
		// This very host, whatever the MX RRset is.
	case len(x.MX) > 0:
		b.WriteString("   MX RRset: " + x.DNSSEC)
	case x.DNSSEC != resolver.Indeterminate.String():
		b.WriteString("   MX RRset: " + x.DNSSEC + ", no hosts")
	}
	b.WriteString("\n")
	if len(x.MX) > 0 {
		b.WriteString("\n")
		s.mxTable(&b, x)
	}
	if x.MTASTS != nil {
		b.WriteString("\n")
		wrap(&b, "MTA-STS     ", stsLine(*x.MTASTS))
	}
	b.WriteString("\n")
	wrap(&b, "decided by  ", plain(x.Source))
	s.answer(&b, "tls-policy  ", x.TLSPolicy)
	if x.TLSPolicyTLSRPT != x.TLSPolicy {
		s.answer(&b, "tls-policy-tlsrpt  ", x.TLSPolicyTLSRPT)
	}
	s.answer(&b, "transport   ", x.Transport)
	b.WriteString("\n")
	list(&b, "tls-policy, why", x.Why)
	list(&b, "transport, why", x.WhyTransport)
	_, err := io.WriteString(s.out, b.String())
	return err
}

func (s shower) mxTable(b *strings.Builder, x lookup.Explanation) {
	const padding = 2
	w := tabwriter.NewWriter(b, 0, 0, padding, ' ', 0)
	_, _ = fmt.Fprintln(w, "PREF\tHOST\tPREFIX\tDNSSEC\tDANE\tPROBE")
	for _, h := range x.MX {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", h.Preference, plain(h.Host), h.Prefix, dash(h.DNSSEC), dash(s.daneCell(h)), dash(probeCell(h)))
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
	if s == "" || s == resolver.Indeterminate.String() {
		return "-"
	}
	return plain(s)
}

func stsLine(p lookup.STSPolicy) string {
	text := p.State
	if p.Mode != "" {
		text += ", mode " + p.Mode
	}
	if len(p.MX) > 0 {
		text += ", mx " + strings.Join(p.MX, " ")
	}
	if p.Why != "" {
		text += ": " + p.Why
	}
	return plain(text)
}

// answer shows a reply as it goes to Postfix, in one line however long: a byte-for-byte answer is not wrapped.
func (s shower) answer(b *strings.Builder, label string, a lookup.Answer) {
	reply, _ := socketmap.ParseReply(a.Status + " " + a.Text) // what is no reply shows as TEMP
	text := reply.String()
	word, rest, _ := strings.Cut(text, " ")
	colour := red
	switch reply.Status {
	case socketmap.StatusOK:
		colour = green
	case socketmap.StatusNotFound:
		colour = yellow
	case socketmap.StatusTemp, socketmap.StatusTimeout, socketmap.StatusPerm:
	}
	b.WriteString(label + s.paint(colour, word) + strings.TrimRight(" "+rest, " ") + "\n")
}

func list(b *strings.Builder, title string, why []string) {
	b.WriteString(title + ":\n")
	for _, line := range why {
		wrap(b, "  - ", plain(line))
	}
}

// wrap writes text in lines of at most 80 columns, the first one after a label and the others below it.
func wrap(b *strings.Builder, label, text string) {
	line := label
	empty := true
	for w := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(w) > columns {
			b.WriteString(line + "\n")
			line, empty = strings.Repeat(" ", len(label)), true
		}
		if !empty {
			line += " "
		}
		line, empty = line+w, false
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// plain makes text that a stranger may have written fit for a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// The colours are the codes of ECMA-48, section 8.3.117.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (s shower) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
