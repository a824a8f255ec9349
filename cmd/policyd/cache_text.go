package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/text"
)

// The columns of a list before the name. Names come late: long ones push nothing but the records to the right.
const (
	typeWidth   = 4
	statusWidth = 8
	leftWidth   = 6
	mostName    = 32
)

// cacheList shows entries, a line each, cut to the width of the terminal.
func (s *screen) cacheList(list admin.CacheList) {
	nameWidth := len("NAME")
	for _, e := range list.Entries {
		nameWidth = max(nameWidth, min(len(e.Name), mostName))
	}
	line := func(kind, status, left, name, records string) {
		words := strings.TrimRight(fmt.Sprintf("%-*s  %-*s  %*s  %-*s  %s", typeWidth, kind, statusWidth, status,
			leftWidth, left,
			nameWidth, text.Printable(name), text.Printable(records)), " ")
		if s.width > 0 && len(words) > s.width {
			words = words[:s.width-1] + ">"
		}
		s.linef("%s", words)
	}
	if len(list.Entries) > 0 {
		line("TYPE", "STATUS", "LEFT", "NAME", "RECORDS")
	}
	now := time.Now()
	for _, e := range list.Entries {
		status, left := entryState(e, now)
		line(e.Type, status, left, cmp.Or(e.Name, "."), entryText(e))
	}
	s.listed(len(list.Entries), list.More, "entries")
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
func (s *screen) domain(d admin.Domain) {
	s.label = queryLabel
	s.title(d.Domain)
	s.linef("")
	now := time.Now()
	if len(d.Cache) == 0 {
		s.row("DNS", "nothing is cached")
	}
	for _, e := range d.Cache {
		s.entry(e, now)
	}
	s.linef("")
	p := d.MTASTS
	if p == nil {
		s.row("MTA-STS", "nothing is stored")
	}
	if p != nil && p.Mode != "" {
		s.row("MTA-STS", "mode %s, id %s, mx %s; fetched %s ago, %s left", p.Mode, p.ID, strings.Join(p.MX, " "),
			span(now.Sub(p.Fetched)), span(p.Expires.Sub(now)))
	}
	if p != nil && p.Failure != "" {
		s.row("MTA-STS", "the last fetch failed: %s; tried again after %s", p.Failure, span(p.Retry.Sub(now)))
	}
	if len(d.Probes) == 0 {
		s.row("probes", "nothing is known")
	}
	label := "probes"
	for _, p := range d.Probes {
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
		s.row(label, "%s", words)
		label = ""
	}
}

// entry shows a complete entry: its name with type, status and time, and its content below.
func (s *screen) entry(e admin.CacheEntry, now time.Time) {
	status, left := entryState(e, now)
	switch {
	case left == "-":
		left = "asked again when it is needed"
	case e.Expires.IsZero():
		left = "not asked again for " + left
	case left == "stale":
		left = "expired " + span(now.Sub(e.Expires)) + " ago, in use while the resolver fails"
	default:
		left += " left"
	}
	s.linef("%s %s  %s, %s", text.Printable(cmp.Or(e.Name, ".")), e.Type, status, left)
	for _, r := range e.Records {
		s.linef("    %s", text.Printable(r))
	}
	if e.Denial != "" {
		s.linef("    %s", e.Denial)
	}
	if e.Failure != "" {
		s.paragraph("    the last lookup failed: ", e.Failure)
	}
}
