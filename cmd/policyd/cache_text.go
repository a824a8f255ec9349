package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/text"
)

func (s *screen) cacheList(list admin.CacheList) {
	s.entries(list.Entries)
	s.listed(len(list.Entries), list.More, "entries")
}

// entries shows a line per entry, cut to the width of the terminal. Names come late, and a long one moves only its own
// records to the right.
func (s *screen) entries(entries []admin.CacheEntry) {
	const mostName = 32
	nameWidth := len("NAME")
	for _, e := range entries {
		nameWidth = max(nameWidth, min(len(e.Name), mostName))
	}
	line := func(kind, status, left, name, records string) {
		words := strings.TrimRight(fmt.Sprintf("%-4s  %-8s  %6s  %-*s  %s", kind, status, left, nameWidth,
			text.Printable(name), text.Printable(records)), " ")
		if s.width > 0 && len(words) > s.width {
			words = words[:s.width-1] + ">"
		}
		s.linef("%s", words)
	}
	if len(entries) > 0 {
		line("TYPE", "STATUS", "LEFT", "NAME", "RECORDS")
	}
	for _, e := range entries {
		status, left, end := e.Status, "stale", e.Expires
		records := cmp.Or(strings.Join(e.Records, "; "), e.Denial)
		switch {
		case e.Expires.IsZero():
			status, left, end, records = "failed", "-", e.Retry, e.Failure
		case e.Failure != "":
			records += " (since then: " + e.Failure + ")"
		}
		if more := time.Until(end); more > 0 {
			left = span(more)
		}
		line(e.Type, status, left, cmp.Or(e.Name, "."), records)
	}
}

// domain shows what is known about a domain.
func (s *screen) domain(d admin.Domain) {
	s.label, s.width = queryLabel, 0
	s.title(d.Domain)
	s.linef("")
	if len(d.Cache) == 0 {
		s.row("DNS", "nothing is cached")
	}
	s.entries(d.Cache)
	s.linef("")
	p := d.MTASTS
	if p == nil {
		s.row("MTA-STS", "nothing is stored")
	}
	if p != nil && p.Mode != "" {
		s.row("MTA-STS", "mode %s, id %s, mx %s; fetched %s ago, %s left", p.Mode, p.ID, strings.Join(p.MX, " "),
			ago(p.Fetched), span(time.Until(p.Expires)))
	}
	if p != nil && p.Failure != "" {
		s.row("MTA-STS", "the last fetch failed: %s; tried again after %s", p.Failure, span(time.Until(p.Retry)))
	}
	if len(d.Probes) == 0 {
		s.row("probes", "nothing is known")
	}
	label := "probes"
	for _, p := range d.Probes {
		s.row(label, "%s %s%s%s%s", p.Host, p.State, part(": ", p.Cause),
			either(p.Checked.IsZero(), "", ", probed "+ago(p.Checked)+" ago"), part("; ", p.Why))
		label = ""
	}
}
