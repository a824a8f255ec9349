package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/internal/text"
)

func (p page) heading(phase cases.Phase) {
	_, _ = fmt.Fprintf(p.to, "\n%s (port26.mode = %q)\n", p.colour.Paint(text.Bold, phase.Name), phase.Port26)
}

// column is as wide as the longest outcome of a mail.
const column = 26

// line shows one case: whether its result is right, the fate of the mail, and the name of the case.
func (p page) line(name string, r cases.Result) {
	mark := p.colour.Paint(text.Green, "ok  ")
	if r.Err != nil {
		mark = p.colour.Paint(text.Red, "BAD ")
	}
	_, _ = fmt.Fprintf(p.to, "%s %-*s %s\n", mark, column, outcome(r.Line), name)
	if r.Err != nil {
		p.indented(r.Err.Error())
	}
	if p.logs {
		p.indented(r.Line)
	}
}

func (p page) indented(lines string) {
	for line := range strings.Lines(lines) {
		_, _ = fmt.Fprintf(p.to, "       %s\n", p.colour.Paint("2", strings.TrimRight(line, "\n")))
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
