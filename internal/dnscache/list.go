package dnscache

import (
	"cmp"
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

// List returns at most limit entries (0: all) that can be used and whose names match, sorted by name and type.
func (c *Cache) List(match func(name string) bool, limit int) []Entry {
	now, list := time.Now(), []Entry{}
	for _, s := range c.shards {
		s.removeIf(c.options.Epoch, func(e *entry) bool {
			if match(e.Name) && !e.removable(now) {
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

// Flush removes the entries whose names match, with their failures, and returns their number. A lookup of such a name
// does not join a call that began before, and the result of no such call is kept.
func (c *Cache) Flush(match func(name string) bool) (removed int) {
	for _, pool := range []*callPool{c.deliveries, c.untrusted, c.refreshes} {
		pool.forget(match)
	}
	for _, s := range c.shards {
		s.flushes.Add(1)
		removed += s.removeIf(c.options.Epoch, func(e *entry) bool { return match(e.Name) })
	}
	c.stats.changes.Add(uint64(removed))
	return removed
}

func (e *entry) show(now time.Time) Entry {
	shown := Entry{Name: strings.Clone(e.Name), Type: e.Type, Data: []string{}}
	shown.Failure, shown.Retry = e.failure.Reason, e.retry // both zero if the last lookup did not fail
	if !e.liveOrStale(now) {
		return shown
	}
	r := e.answer()
	shown.Status, shown.Expires, shown.Data = r.Status, r.Expires, append(shown.Data, r.Data()...)
	shown.Stored = r.Expires.Add(-e.ttl)
	switch {
	case r.NXDomain:
		shown.Denial = "NXDOMAIN"
	case r.Empty():
		shown.Denial = "NODATA"
	}
	return shown
}
