package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// page writes the demonstration: 80 columns, and colour on a terminal.
type page struct {
	to     io.Writer
	colour text.Palette
}

const (
	width     = text.Columns
	dim       = text.Style("2")
	labelWide = 10
)

func (p page) line(line string) {
	_, _ = fmt.Fprintln(p.to, line) // the reader may have gone
}

// paragraph writes text after a label, in as many lines as it takes.
func (p page) paragraph(label, words string) {
	label = fmt.Sprintf("%-*s", labelWide, label)
	var b strings.Builder
	text.Wrap(&b, "  "+label, words)
	lines := strings.Replace(b.String(), label, p.colour.Paint(dim, label), 1)
	p.line(strings.TrimSuffix(lines, "\n"))
}

// list writes paragraphs, and the label before the first.
func (p page) list(label string, texts []string) {
	for _, t := range texts {
		p.paragraph(label, "- "+t)
		label = ""
	}
}

func (p page) title() {
	p.line(p.colour.Paint(text.Bold, "policyd: its answers to Postfix, byte for byte, and their reasons"))
	p.line("")
	p.line("For each mail Postfix looks up two tables over a socket: which TLS policy must")
	p.line("hold, and whether another transport delivers the mail. Answers are netstrings,")
	p.line(`"length:text,". The domains are invented, and everything runs on loopback.`)
}

// domain writes the records of the domain in the DNS.
func (p page) domain(d domain, e explanation) {
	p.line("")
	p.line(p.colour.Paint(text.Bold, d.name) + " " + strings.Repeat("-", width-len(d.name)-1))
	p.line("  " + d.about)
	p.line("")
	for _, mx := range e.MX {
		p.line(fmt.Sprintf("  MX %5d  %-42s prefix: %s", mx.Preference, mx.Host, mx.Prefix))
	}
	p.line("  DNSSEC    " + e.DNSSEC)
	p.line("")
}

// answer writes a question and its reply as it arrives over the socket.
func (p page) answer(q question, got socketmap.Reply) {
	p.line(fmt.Sprintf("  %-34s %s", q.request.Map+" "+q.request.Key, p.colour.Paint(dim, q.setting)))
	wire := string(socketmap.AppendNetstring(nil, got.String()))
	if got.String() == q.want {
		p.line("    " + p.colour.Paint(text.Green, wire))
		return
	}
	p.line("    " + p.colour.Paint(text.Red, wire))
	p.line("    " + p.colour.Paint(text.Red, "expected: "+q.want))
}

// reasons writes why: first the explanation of policyd, then one in plain words.
func (p page) reasons(d domain, e explanation) {
	p.line("")
	p.list("policy", e.Why)
	p.list("route", e.WhyTransport)
	p.paragraph("so", d.then)
}

func (p page) end(answers int) {
	p.line("")
	p.line(strings.Repeat("-", width))
	p.line(fmt.Sprintf("%d answers, each as expected. Nothing is left behind.", answers))
	p.line("")
	p.line("Ask about a real domain:  bin/policyd query example.com")
}
