package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/policyd/policyd/socketmap"
)

// page is where the demonstration is written: 80 columns, and colour on a terminal.
type page struct {
	to     io.Writer
	colour bool
}

const (
	width  = 80
	margin = 10 // of the explanation
)

// The styles, as SGR parameters.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

func (p page) paint(style, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (p page) line(text string) {
	_, _ = fmt.Fprintln(p.to, text) // the reader may have gone
}

// paragraph writes text behind a label, in as many lines as it takes.
func (p page) paragraph(label, text string) {
	const indent = 2
	room := width - indent - margin
	label = fmt.Sprintf("%-*s", margin, label)
	row := ""
	flush := func() {
		p.line(strings.Repeat(" ", indent) + p.paint(dim, label) + row)
		label, row = strings.Repeat(" ", margin), ""
	}
	for word := range strings.FieldsSeq(text) {
		switch {
		case row == "":
			row = word
		case len(row)+1+len(word) > room:
			flush()
			row = word
		default:
			row += " " + word
		}
	}
	flush()
}

// list writes paragraphs, of which the first has the label.
func (p page) list(label string, texts []string) {
	for _, text := range texts {
		p.paragraph(label, "- "+text)
		label = ""
	}
}

func (p page) title() {
	p.line(p.paint(bold, "policyd: what Postfix is told, byte for byte, and why"))
	p.line("")
	p.line("For each mail Postfix asks two tables over a socket: which TLS policy must hold,")
	p.line("and whether a transport of its own takes the mail. Answers are netstrings,")
	p.line(`"length:text,". The domains are made up; all of this happens on loopback.`)
}

// domain writes what the domain has in the DNS.
func (p page) domain(d domain, e explanation) {
	p.line("")
	p.line(p.paint(bold, d.name) + " " + strings.Repeat("-", width-len(d.name)-1))
	p.line("  " + d.about)
	p.line("")
	for _, mx := range e.MX {
		p.line(fmt.Sprintf("  MX %5d  %-42s prefix: %s", mx.Preference, mx.Host, mx.Prefix))
	}
	p.line("  DNSSEC    " + e.DNSSEC)
	p.line("")
}

// answer writes a question and its reply as it comes over the socket.
func (p page) answer(q question, got socketmap.Reply) {
	p.line(fmt.Sprintf("  %-34s %s", q.request.Map+" "+q.request.Key, p.paint(dim, q.setting)))
	wire := string(socketmap.AppendNetstring(nil, got.String()))
	if got.String() == q.want {
		p.line("    " + p.paint(green, wire))
		return
	}
	p.line("    " + p.paint(red, wire))
	p.line("    " + p.paint(red, "expected: "+q.want))
}

// reasons writes why, in policyd's words and then in plain ones.
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
