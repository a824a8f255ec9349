package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/text"
)

// status shows the state of a daemon.
func (s *screen) status(st admin.Status) {
	s.label = "%-13s"
	s.linef("%s, mode %s, up %s, process %d", s.bold("policyd "+st.Version), text.Printable(st.Settings.Mode),
		span(time.Duration(st.Uptime)*time.Second), st.PID)
	for _, w := range st.Warnings {
		var b strings.Builder
		text.Wrap(&b, "  ! ", text.Printable(w))
		s.linef("%s", s.colour.Paint(text.Yellow, strings.TrimSuffix(b.String(), "\n")))
	}
	s.linef("")
	s.settings(st)
	s.resolver(st)
	s.lookups(st.Lookups)
	s.cache(st.Cache)
	s.features(st)
	s.shared(st)
	s.connections(st.Connections)
}

func (s *screen) settings(st admin.Status) {
	s.whole("settings", cmp.Or(st.Settings.File, "no file, the defaults"))
	for _, line := range st.Settings.Changed {
		s.whole("", "  "+line)
	}
	s.row("", "lines in the overrides file: %d, log level: %s", st.Settings.Overrides, st.LogLevel)
	switch {
	case st.Reload == nil:
		s.row("reload", "none since the start")
	case st.Reload.OK:
		s.row("reload", "succeeded %s ago", ago(st.Reload.At))
	default:
		s.row("reload", "failed %s ago; keeping the previous settings: %s", ago(st.Reload.At), st.Reload.Error)
	}
}

func (s *screen) resolver(st admin.Status) {
	r := st.Resolver
	trust := "not trusted"
	if r.Trusted {
		trust = "trusted"
	}
	s.row("resolver", "%s, from %s, %s", strings.Join(r.Servers, " "), r.Source, trust)
	test := r.SelfTest
	if !r.Checked.IsZero() {
		test += ", tested " + ago(r.Checked) + " ago"
	}
	if r.Reason != "" {
		test += ": " + r.Reason
	}
	s.row("self-test", "%s", test)
	s.row("answers", "%s", counts(st.Cache.Answers, "secure", "insecure", "bogus", "failed"))
}

func (s *screen) lookups(l admin.Lookups) {
	label := "lookups"
	maps := []string{"tls-policy", "tls-policy-tlsrpt", "transport"}
	for name := range l.Replies {
		if !slices.Contains(maps, name) {
			maps = append(maps, name)
		}
	}
	for _, name := range maps {
		replies := l.Replies[name]
		if name == "tls-policy-tlsrpt" && total(replies) == 0 {
			continue
		}
		s.row(label, "%s: %s", name, counts(replies, "OK", "NOTFOUND", "TEMP"))
		label = ""
	}
	s.row("", "policies on an unsigned MX RRset: %s", number(l.Unsigned))
}

func (s *screen) cache(c admin.Cache) {
	s.row("cache", "%s of %s entries, about %s of %s", number(c.Entries), number(c.MaxEntries), size(c.Bytes),
		size(c.MaxBytes))
	share := ""
	if all := c.Hits + c.Misses + c.Failures + c.Stale; all > 0 {
		share = fmt.Sprintf(" (%.1f %%)", 100*float64(c.Hits)/float64(all))
	}
	s.row("", "hits %s%s, misses %s, failures %s, stale %s", number(c.Hits), share, number(c.Misses),
		number(c.Failures), number(c.Stale))
	s.row("", "refreshed %s, evicted %s, secure kept against insecure %s", number(c.Refreshed), number(c.Evicted),
		number(c.Kept))
}

func (s *screen) features(st admin.Status) {
	if m := st.MTASTS; m == nil {
		s.row("mta-sts", "off")
	} else {
		kept := "lost with a restart"
		if m.Kept {
			kept = "kept across restarts"
		}
		s.row("mta-sts", "policies %s, %s; fetches: %s", number(m.Policies), kept, counts(m.Fetches, "ok", "failed"))
	}
	if p := st.Probes; p == nil {
		s.row("probes", "off")
	} else {
		s.row("probes", "hosts: %s", counts(p.Hosts, "open", "closed", "unknown"))
		s.row("", "probes: %s", counts(p.Results, "open"))
	}
}

func (s *screen) connections(c admin.Connections) {
	label := "listening"
	for _, address := range c.Listeners {
		s.whole(label, address)
		label = ""
	}
	s.row("connections", "%d of %d open, %s since the start", c.Open, c.Max, number(c.Total))
	s.row("", "closed: %s", counts(c.Dropped, "idle", "evicted", "refused", "stalled"))
	s.row("", "errors: %s", counts(c.Errors, "malformed", "unknown-map", "write", "accept"))
	for _, m := range c.UnknownMaps {
		s.row("unknown map", "%q, %s requests, last at %s", m.Name, number(m.Times), m.Last.Format(time.TimeOnly))
	}
}

// counts lists counters: the first ones always, then the others that are not zero, by name.
func counts[K ~string](by map[K]uint64, first ...K) string {
	names := slices.Clone(first)
	var more []K
	for name, n := range by {
		if n > 0 && !slices.Contains(first, name) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	var texts []string
	for _, name := range append(names, more...) {
		texts = append(texts, string(name)+" "+number(by[name]))
	}
	return strings.Join(texts, ", ")
}

func total[K comparable](by map[K]uint64) (n uint64) {
	for _, v := range by {
		n += v
	}
	return n
}

// number writes a number with commas between its thousands.
func number[N int | uint64](n N) string {
	s := fmt.Sprint(max(n, 0))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes a number of bytes.
func size(n int64) string {
	const kib, mib = 1 << 10, 1 << 20
	switch {
	case n >= mib:
		return fmt.Sprintf("%.1f MiB", float64(n)/mib)
	case n >= kib:
		return fmt.Sprintf("%.1f KiB", float64(n)/kib)
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

func ago(t time.Time) string { return span(time.Since(t)) }

// span writes a duration in its largest unit, and the next one if there is any of it.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	units := []struct {
		length time.Duration
		name   string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	d = max(d, 0)
	for i, u := range units[:len(units)-1] {
		next := units[i+1]
		if d < u.length {
			continue
		}
		words := fmt.Sprintf("%d%s", d/u.length, u.name)
		if rest := d % u.length / next.length; rest > 0 {
			words += fmt.Sprintf("%d%s", rest, next.name)
		}
		return words
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func (s *screen) shared(st admin.Status) {
	if p := st.Promises; p != nil {
		s.row("promises", "remembered for %s domains, missing now %s, held %s, vanished %s", number(p.Remembered),
			number(p.Missing), number(p.Held), number(p.Vanished))
	}
	f := st.Fleet
	switch {
	case f == nil:
		return
	case f.Up:
		s.row("fleet", "available, last exchange %s ago", ago(f.LastSuccess))
	case f.LastSuccess.IsZero():
		s.row("fleet", "unavailable since the start: %s", f.Error)
	default:
		s.row("fleet", "unavailable, last exchange %s ago: %s", ago(f.LastSuccess), f.Error)
	}
	s.row("", "records: sent %s, received %s, merged %s", number(f.Sent), number(f.Received), number(f.Merged))
	s.row("", "ignored: %s", counts(f.Ignored, "stale", "mac"))
}
