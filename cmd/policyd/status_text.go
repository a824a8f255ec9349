package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/text"
)

// sheet is text in two columns, labels and values.
type sheet struct {
	b strings.Builder
	s shower
}

const labels = 13 // width of the left column

// row writes a line, or several if it is too long. An empty label continues the row above.
func (t *sheet) row(label, format string, args ...any) {
	text.Wrap(&t.b, fmt.Sprintf("%-*s", labels, label), text.Printable(fmt.Sprintf(format, args...)))
}

// whole writes text that people copy, such as paths and lines of a settings file: in one line however long.
func (t *sheet) whole(label, words string) {
	t.b.WriteString(fmt.Sprintf("%-*s", labels, label) + text.Printable(words) + "\n")
}

// status shows the state of a daemon in 80 columns.
func (s shower) status(st admin.Status) error {
	t := &sheet{s: s}
	t.b.WriteString(s.colour.Paint(text.Bold, "policyd "+text.Printable(st.Version)) + ", mode " + text.Printable(st.Settings.Mode) +
		", up " + span(time.Duration(st.Uptime)*time.Second) + ", process " + strconv.Itoa(st.PID) + "\n")
	for _, w := range st.Warnings {
		var b strings.Builder
		text.Wrap(&b, "  ! ", text.Printable(w))
		t.b.WriteString(s.colour.Paint(text.Yellow, strings.TrimSuffix(b.String(), "\n")) + "\n")
	}
	t.b.WriteString("\n")
	t.settings(st)
	t.resolver(st)
	t.lookups(st.Lookups)
	t.cache(st.Cache)
	t.features(st)
	t.memory(st)
	t.connections(st.Connections)
	return s.printf("%s", t.b.String())
}

func (t *sheet) settings(st admin.Status) {
	file := st.Settings.File
	if file == "" {
		file = "no file, the defaults"
	}
	t.whole("settings", file)
	for _, line := range st.Settings.Changed {
		t.whole("", "  "+line)
	}
	t.row("", "lines in the overrides file: %d, log level: %s", st.Settings.Overrides, st.LogLevel)
	switch {
	case st.Reload == nil:
		t.row("reload", "none since the start")
	case st.Reload.OK:
		t.row("reload", "succeeded %s ago", ago(st.Reload.At))
	default:
		t.row("reload", "failed %s ago; keeping the previous settings: %s", ago(st.Reload.At), st.Reload.Error)
	}
}

func (t *sheet) resolver(st admin.Status) {
	r := st.Resolver
	trust := "not trusted"
	if r.Trusted {
		trust = "trusted"
	}
	t.row("resolver", "%s, from %s, %s", strings.Join(r.Servers, " "), r.Source, trust)
	test := r.SelfTest
	if !r.Checked.IsZero() {
		test += ", tested " + ago(r.Checked) + " ago"
	}
	if r.Reason != "" {
		test += ": " + r.Reason
	}
	t.row("self-test", "%s", test)
	t.row("answers", "%s", counts(st.Cache.Answers, "secure", "insecure", "bogus", "failed"))
}

func (t *sheet) lookups(l admin.Lookups) {
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
		t.row(label, "%s: %s", name, counts(replies, "OK", "NOTFOUND", "TEMP"))
		label = ""
	}
	t.row("", "policies on an unsigned MX RRset: %s", number(l.Unsigned))
}

func (t *sheet) cache(c admin.Cache) {
	t.row("cache", "%s of %s entries, about %s of %s", number(uint64(max(c.Entries, 0))), number(uint64(max(c.MaxEntries, 0))), size(c.Bytes), size(c.MaxBytes))
	share := ""
	if all := c.Hits + c.Misses + c.Failures + c.Stale; all > 0 {
		share = fmt.Sprintf(" (%.1f %%)", 100*float64(c.Hits)/float64(all))
	}
	t.row("", "hits %s%s, misses %s, failures %s, stale %s", number(c.Hits), share, number(c.Misses), number(c.Failures), number(c.Stale))
	t.row("", "refreshed %s, evicted %s, secure kept against insecure %s", number(c.Refreshed), number(c.Evicted), number(c.Kept))
}

func (t *sheet) features(st admin.Status) {
	if m := st.MTASTS; m == nil {
		t.row("mta-sts", "off")
	} else {
		kept := "lost with a restart"
		if m.Kept {
			kept = "kept across restarts"
		}
		t.row("mta-sts", "policies %s, %s; fetches: %s", number(uint64(max(m.Policies, 0))), kept, counts(m.Fetches, "ok", "failed"))
	}
	if p := st.Probes; p == nil {
		t.row("probes", "off")
	} else {
		t.row("probes", "hosts: %s", counts(p.Hosts, "open", "closed", "unknown"))
		t.row("", "probes: %s", counts(p.Results, "open"))
	}
}

func (t *sheet) connections(c admin.Connections) {
	label := "listening"
	for _, address := range c.Listeners {
		t.whole(label, address)
		label = ""
	}
	t.row("connections", "%d of %d open, %s since the start", c.Open, c.Max, number(c.Total))
	t.row("", "closed: %s", counts(c.Dropped, "idle", "evicted", "refused", "stalled"))
	t.row("", "errors: %s", counts(c.Errors, "malformed", "unknown-map", "write", "accept"))
	for _, m := range c.UnknownMaps {
		t.row("unknown map", "%q, %s requests, last at %s", m.Name, number(m.Times), m.Last.Format(time.TimeOnly))
	}
}

// counts lists counters: the first ones always, then the others that are not zero, by name.
func counts(by map[string]uint64, first ...string) string {
	names := slices.Clone(first)
	var more []string
	for name, n := range by {
		if n > 0 && !slices.Contains(first, name) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	var texts []string
	for _, name := range append(names, more...) {
		texts = append(texts, name+" "+number(by[name]))
	}
	return strings.Join(texts, ", ")
}

func total(by map[string]uint64) (n uint64) {
	for _, v := range by {
		n += v
	}
	return n
}

// number writes a number with commas between its thousands.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
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

func (t *sheet) memory(st admin.Status) {
	if p := st.Promises; p != nil {
		t.row("promises", "remembered of %s domains, missing now %s, held %s, vanished %s", number(uint64(max(p.Remembered, 0))),
			number(uint64(max(p.Missing, 0))), number(uint64(max(p.Held, 0))), number(p.Vanished))
	}
	f := st.Fleet
	switch {
	case f == nil:
		return
	case f.Up:
		t.row("fleet", "available, last exchange %s ago", ago(f.LastSuccess))
	case f.LastSuccess.IsZero():
		t.row("fleet", "unavailable since the start: %s", f.Error)
	default:
		t.row("fleet", "unavailable, last exchange %s ago: %s", ago(f.LastSuccess), f.Error)
	}
	t.row("", "records sent %s, received %s, merged %s, ignored %s", number(f.Sent), number(f.Received), number(f.Merged), number(total(f.Ignored)))
}
