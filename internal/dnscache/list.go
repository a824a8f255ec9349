package dnscache

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// Entry is a human-readable entry of a Cache. Its JSON form is stable.
type Entry struct {
	// Name is in lower case, without the final dot; the root is "".
	Name string   `json:"name"`
	Type dns.Type `json:"type"`
	// Status is Indeterminate if only a failure is known.
	Status dns.Status `json:"status"`
	// Data are the records in the form of a zone file, empty for a denial: Denial is then "NXDOMAIN" or "NODATA".
	Data   []string `json:"records"`
	Denial string   `json:"denial,omitempty"`
	// Stored and Expires are zero if only a failure is known. An answer is listed as long as it may be served stale.
	Stored  time.Time `json:"stored,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	// Failure is why the last lookup failed, "" if it did not; it is not tried again before Retry.
	Failure string    `json:"failure,omitempty"`
	Retry   time.Time `json:"retry,omitzero"`
}

// List returns at most limit entries that are of use (0: all) and whose names are Matching, sorted by name and type.
func (c *Cache) List(match string, limit int) []Entry { return c.entries(limit, Matching(match)) }

// Matching returns a function that reports whether a name matches a pattern of path.Match, if match contains one of *?[
// ("*" also matches dots, because names have no slashes), or else contains it.
func Matching(match string) func(name string) bool {
	match = dns.Lower(dns.TrimRoot(match))
	return func(name string) bool {
		if strings.ContainsAny(match, "*?[") {
			matched, err := path.Match(match, name)
			return matched && err == nil
		}
		return strings.Contains(name, match)
	}
}

// Get returns the entries of a domain and of all names below it, which Flush would remove.
func (c *Cache) Get(domain string) []Entry { return c.entries(0, within(domain)) }

// Flush removes the entries of a domain and of all names below it, with their failures, and returns their number. For
// "" and "." it does nothing: see FlushAll.
func (c *Cache) Flush(domain string) int {
	in := within(domain)
	return c.flush(func(e *entry) bool { return in(e.Name) })
}

// FlushAll removes all entries and returns their number.
func (c *Cache) FlushAll() int {
	return c.flush(func(*entry) bool { return true })
}

func (c *Cache) flush(f func(*entry) bool) (removed int) {
	for _, s := range c.shards {
		removed += s.removeIf(c.epoch(), f)
	}
	c.stats.changes.Add(uint64(removed))
	return removed
}

// within returns a function that reports whether a name is the domain or below it.
func within(domain string) func(string) bool {
	domain = dns.Lower(dns.TrimRoot(domain))
	return func(name string) bool {
		above, ok := strings.CutSuffix(name, domain)
		return domain != "" && ok && (above == "" || dns.TrimRoot(above) != above)
	}
}

func (c *Cache) entries(limit int, match func(name string) bool) []Entry {
	now, list := time.Now(), []Entry{}
	for _, s := range c.shards {
		s.removeIf(c.epoch(), func(e *entry) bool {
			if match(e.Name) && !e.dead(now) {
				list = append(list, e.show(now))
			}
			return false
		})
		slices.SortFunc(list, func(a, b Entry) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
		})
		if limit > 0 { // never hold more than that and what one shard adds
			list = list[:min(limit, len(list))]
		}
	}
	return list
}

func (e *entry) show(now time.Time) Entry {
	shown := Entry{Name: strings.Clone(e.Name), Type: e.Type, Data: []string{}}
	if e.failed {
		shown.Failure, shown.Retry = e.failure.Reason, e.retry
	}
	if !e.usable(now) {
		return shown
	}
	r := e.answer()
	shown.Status, shown.Expires, shown.Data = r.Status, r.Expires, append(shown.Data, r.Data()...)
	shown.Stored = r.Expires.Add(-e.life)
	switch {
	case r.NXDomain:
		shown.Denial = "NXDOMAIN"
	case r.Empty():
		shown.Denial = "NODATA"
	}
	return shown
}
