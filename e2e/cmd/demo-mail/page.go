package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/policyd/policyd/e2e/cases"
)

// The colours of a terminal.
const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	faint = "\x1b[2m"
	plain = "\x1b[0m"
)

func (p page) paint(colour, text string) string {
	if !p.colour {
		return text
	}
	return colour + text + plain
}

func (p page) heading(phase cases.Phase) {
	_, _ = fmt.Fprintf(p.to, "\n%s (port26.mode = %q)\n", p.paint(bold, phase.Name), phase.Port26)
}

// column is as wide as the longest outcome of a mail.
const column = 26

// line shows one case: whether it is as it should be, what became of the mail, and what the case is.
func (p page) line(name string, r cases.Result) {
	mark := p.paint(green, "ok  ")
	if r.Err != nil {
		mark = p.paint(red, "BAD ")
	}
	_, _ = fmt.Fprintf(p.to, "%s %-*s %s\n", mark, column, outcome(r.Line), name)
	if r.Err != nil {
		p.indented(r.Err.Error())
	}
	if p.logs {
		p.indented(r.Line)
	}
}

func (p page) indented(text string) {
	for line := range strings.Lines(text) {
		_, _ = fmt.Fprintf(p.to, "       %s\n", p.paint(faint, strings.TrimRight(line, "\n")))
	}
}

var (
	attempts = regexp.MustCompile(`(?m)(?:(\w+) TLS; )?postfix/\S+: \w+: to=.*? relay=([^,]+),.*status=(\w+)`)
	port     = regexp.MustCompile(`:(\d+)$`)
)

// outcome is the last attempt in a few words: "sent on 26, Verified TLS", "deferred".
func outcome(line string) string {
	all := attempts.FindAllStringSubmatch(line, -1)
	if all == nil {
		first, _, _ := strings.Cut(line, "\n")
		first, _, _ = strings.Cut(first, ",")
		return first[:min(len(first), column)]
	}
	last := all[len(all)-1]
	tls, relay, status := last[1], last[2], last[3]
	switch p := port.FindStringSubmatch(relay); {
	case status != "sent":
		return status
	case p == nil:
		return "sent, " + relay
	case tls == "":
		return "sent on " + p[1] + ", in the clear"
	default:
		return "sent on " + p[1] + ", " + tls + " TLS"
	}
}
