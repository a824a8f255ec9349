package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/text"
)

// widthOf is the width of a terminal; 0, no bound, for anything else.
func widthOf(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		return text.Columns
	}
	return width
}

// The columns of a list before the name. Names come late: long ones push nothing but the records to the right.
const (
	typeWidth   = 4
	statusWidth = 8
	leftWidth   = 6
	mostName    = 32
)

// cacheList shows entries, a line each, cut to the width of the terminal.
func (s shower) cacheList(list admin.CacheList) error {
	var b strings.Builder
	nameWidth := len("NAME")
	for _, e := range list.Entries {
		nameWidth = max(nameWidth, min(len(e.Name), mostName))
	}
	line := func(kind, status, left, name, records string) {
		words := fmt.Sprintf("%-*s  %-*s  %*s  %-*s  %s", typeWidth, kind, statusWidth, status, leftWidth, left, nameWidth, text.Printable(name), text.Printable(records))
		words = strings.TrimRight(words, " ")
		if s.width > 0 && len(words) > s.width {
			words = words[:s.width-1] + ">"
		}
		b.WriteString(words + "\n")
	}
	if len(list.Entries) > 0 {
		line("TYPE", "STATUS", "LEFT", "NAME", "RECORDS")
	}
	now := time.Now()
	for _, e := range list.Entries {
		status, left := entryState(e, now)
		line(e.Type, status, left, nameOr(e.Name), entryText(e))
	}
	return s.list(b.String(), list.More, len(list.Entries), "entries")
}

// nameOr returns a name, or the dot of the root.
func nameOr(name string) string {
	if name == "" {
		return "."
	}
	return name
}

// entryState returns the security status of an entry, and for how long it holds.
func entryState(e admin.CacheEntry, now time.Time) (status, left string) {
	switch {
	case e.Expires.IsZero() && now.Before(e.Retry):
		return "failed", span(e.Retry.Sub(now))
	case e.Expires.IsZero():
		return "failed", "-"
	case now.After(e.Expires):
		return e.Status, "stale"
	}
	return e.Status, span(e.Expires.Sub(now))
}

// entryText returns the records of an entry, or else its denial or failure.
func entryText(e admin.CacheEntry) string {
	switch {
	case e.Expires.IsZero():
		return e.Failure
	case len(e.Records) == 0:
		return e.Denial
	case e.Failure != "":
		return strings.Join(e.Records, "; ") + " (since then: " + e.Failure + ")"
	}
	return strings.Join(e.Records, "; ")
}

// domain shows what is known about a domain.
func (s shower) domain(d admin.Domain) error {
	var b strings.Builder
	b.WriteString(s.colour.Paint(text.Bold, text.Printable(d.Domain)) + "\n\n")
	now := time.Now()
	if len(d.Cache) == 0 {
		b.WriteString("DNS         nothing is cached\n")
	}
	for _, e := range d.Cache {
		entryLines(&b, e, now)
	}
	b.WriteString("\n")
	s.storedPolicy(&b, d.MTASTS, now)
	if len(d.Probes) == 0 {
		b.WriteString("probes      nothing is known\n")
	}
	for i, p := range d.Probes {
		label := "probes      "
		if i > 0 {
			label = strings.Repeat(" ", len(label))
		}
		words := p.Host + " " + p.State
		if p.Cause != "" {
			words += ": " + p.Cause
		}
		if !p.Checked.IsZero() {
			words += ", probed " + span(now.Sub(p.Checked)) + " ago"
		}
		if p.Why != "" {
			words += "; " + p.Why
		}
		text.Wrap(&b, label, text.Printable(words))
	}
	return s.printf("%s", b.String())
}

// entryLines shows a complete entry: its name with type, status and time, and its content below.
func entryLines(b *strings.Builder, e admin.CacheEntry, now time.Time) {
	status, left := entryState(e, now)
	head := text.Printable(nameOr(e.Name)) + " " + e.Type + "  " + status + ", "
	switch {
	case left == "-":
		head += "asked again when it is needed"
	case e.Expires.IsZero():
		head += "not asked again for " + left
	case left == "stale":
		head += "expired " + span(now.Sub(e.Expires)) + " ago, in use while the resolver fails"
	default:
		head += left + " left"
	}
	b.WriteString(head + "\n")
	for _, r := range e.Records {
		b.WriteString("    " + text.Printable(r) + "\n")
	}
	if e.Denial != "" {
		b.WriteString("    " + e.Denial + "\n")
	}
	if e.Failure != "" {
		text.Wrap(b, "    the last lookup failed: ", text.Printable(e.Failure))
	}
}

func (s shower) storedPolicy(b *strings.Builder, p *admin.StoredPolicy, now time.Time) {
	const label = "MTA-STS     "
	if p == nil {
		b.WriteString(label + "nothing is stored\n")
		return
	}
	if p.Mode != "" {
		text.Wrap(b, label, text.Printable(fmt.Sprintf("mode %s, id %s, mx %s; fetched %s ago, %s left", p.Mode, p.ID, strings.Join(p.MX, " "), span(now.Sub(p.Fetched)), span(p.Expires.Sub(now)))))
	}
	if p.Failure != "" {
		text.Wrap(b, label, text.Printable("the last fetch failed: "+p.Failure+"; tried again after "+span(p.Retry.Sub(now))))
	}
}
