package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/text"
)

func (s *screen) status(st status.Status) {
	s.label = "%-13s"
	s.linef("%s, mode %s, up %s, process %d", s.bold("policyd "+st.Version), text.Printable(st.Settings.Mode),
		span(time.Duration(st.Uptime)*time.Second), st.PID)
	for _, w := range st.Warnings {
		var b strings.Builder
		text.Wrap(&b, "  ! ", text.Printable(w))
		s.linef("%s", s.colour.Paint(text.Yellow, strings.TrimSuffix(b.String(), "\n")))
	}
	s.linef("")
	// Operators copy these lines, so they are not wrapped.
	s.linef(s.label+"%s", "settings", text.Printable(cmp.Or(st.Settings.File, "no file, the defaults")))
	for _, line := range st.Settings.Changed {
		s.linef(s.label+"  %s", "", text.Printable(line))
	}
	before := ""
	add := func(label, format string, args ...any) {
		if label == before {
			label = "" // the row continues the one above
		}
		s.row(label, format, args...)
		before = cmp.Or(label, before)
	}
	add("", "lines in the overrides file: %d, log level: %s", st.Settings.Overrides, st.LogLevel)
	switch last := st.Reload; {
	case last == nil:
		add("reload", "none since the start")
	case last.OK:
		add("reload", "succeeded %s ago", ago(last.At))
	default:
		add("reload", "failed %s ago; keeping the previous settings: %s", ago(last.At), last.Error)
	}

	r, c := st.Resolver, st.Cache
	add("resolver", "%s, from %s, %s", strings.Join(r.Servers, " "), r.Source,
		text.Either(r.Trusted, "trusted", "not trusted"))
	add("self-test", "%s%s%s", r.SelfTest, part(", ", event("tested", r.Checked)), part(": ", r.Reason))
	add("answers", "%s", counts(c.Answers, "secure", "insecure", "bogus", "failed"))
	for _, name := range slices.Sorted(maps.Keys(st.Lookups.Replies)) {
		add("lookups", "%s: %s", name, counts(st.Lookups.Replies[name], "OK", "NOTFOUND", "TEMP"))
	}
	add("lookups", "policies on an unsigned MX RRset: %s", number(st.Lookups.Unsigned))
	const mib = 1 << 20
	add("cache", "%s of %s entries, about %.1f of %.1f MiB", number(c.Entries), number(c.MaxEntries),
		float64(c.Bytes)/mib, float64(c.MaxBytes)/mib)
	share := 100 * float64(c.Hits) / float64(max(c.Hits+c.Misses+c.Failures+c.Stale, 1))
	add("", "hits %s (%.1f %%), misses %s, failures %s, stale %s", number(c.Hits), share, number(c.Misses),
		number(c.Failures), number(c.Stale))
	add("", "refreshed %s, evicted %s, secure kept against insecure %s", number(c.Refreshed), number(c.Evicted),
		number(c.Kept))

	if m := st.MTASTS; m == nil {
		add("mta-sts", "off")
	} else {
		kept := text.Either(m.Persistent, "kept across restarts", "lost with a restart")
		add("mta-sts", "policies %s, %s; fetches: %s", number(m.Policies), kept, counts(m.Fetches, "ok", "failed"))
	}
	if p := st.Probes; p == nil {
		add("probes", "off")
	} else {
		add("probes", "hosts: %s", counts(p.Hosts, "open", "closed", "unknown"))
		add("", "probes: %s", counts(p.Results, "open"))
	}
	if p := st.Promises; p != nil {
		add("promises", "remembered for %s domains, missing now %s, held %s, vanished %s", number(p.Remembered),
			number(p.Missing), number(p.Held), number(p.Vanished))
	}
	if f := st.Fleet; f != nil {
		add("fleet", "%s, %s%s", text.Either(f.Up, "available", "unavailable"),
			cmp.Or(event("last exchange", f.LastSuccess), "no exchange since the start"), part(": ", f.Error))
		add("", "records: sent %s, received %s, merged %s", number(f.Sent), number(f.Received), number(f.Merged))
		add("", "ignored: %s", counts(f.Ignored, "stale", "mac"))
	}

	conns := st.Connections
	for _, address := range conns.Listeners {
		add("listening", "%s", address)
	}
	add("connections", "%d of %d open, %s since the start", conns.Open, conns.Max, number(conns.Total))
	add("", "closed: %s", counts(conns.Dropped, "idle", "evicted", "refused", "stalled"))
	add("", "errors: %s", counts(conns.Errors, "malformed", "unknown-map", "write", "accept"))
	for _, m := range conns.UnknownMaps {
		add("unknown map", "%q, %s requests, last at %s", m.Name, number(m.Times), m.Last.Format(time.TimeOnly))
	}
}

// counts lists counters: the first ones always, then the others that are not zero, by name.
func counts[K ~string](by map[K]uint64, first ...K) string {
	var texts []string
	for i, name := range append(first, slices.Sorted(maps.Keys(by))...) {
		if i < len(first) || by[name] > 0 && !slices.Contains(first, name) {
			texts = append(texts, string(name)+" "+number(by[name]))
		}
	}
	return strings.Join(texts, ", ")
}

// number writes a number with commas between its thousands.
func number[N int | uint64](n N) string {
	s := fmt.Sprint(max(n, 0))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func ago(t time.Time) string { return span(time.Since(t)) }

// event returns how long ago something happened, such as "tested 5m ago"; nothing for the zero time.
func event(what string, t time.Time) string { return wordsIf(!t.IsZero(), what+" "+ago(t)+" ago") }

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	var words []string
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / u.length; n > 0 {
			words = append(words, fmt.Sprint(int64(n))+u.name)
		}
		d %= u.length
	}
	return cmp.Or(strings.Join(words[:min(len(words), 2)], ""), "0s")
}
