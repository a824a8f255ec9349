package dnscache

import (
	"math/rand/v2"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	// maxTTL and maxDenialTTL cap how long an answer and a denial are kept (RFC 8767 section 4, RFC 2308 section 5).
	maxTTL       = 24 * time.Hour
	maxDenialTTL = 3 * time.Hour
	// maxStaleTTL caps an answer that had expired in the cache of the resolver (RFC 8767 section 5).
	maxStaleTTL = 30 * time.Second
	// maxStale is how long after its expiry an answer is served if the resolver fails.
	maxStale = time.Hour
	// A failed lookup is not repeated for minBackOff, then for twice as long each time (RFC 9520 section 3.2).
	minBackOff = time.Second
	maxBackOff = 5 * time.Minute
	// refreshMinTTL is how long an answer must live to be refreshed ahead of its expiry.
	refreshMinTTL = time.Minute
)

// capped returns r, or a copy that expires at the cap.
func capped(r *dns.RRset, now time.Time) *dns.RRset {
	longest := maxTTL
	if r.Empty() {
		longest = maxDenialTTL
	}
	if r.Stale {
		longest = maxStaleTTL
	}
	if end := now.Add(longest); r.Expires.After(end) {
		shorter := *r
		shorter.Expires = end
		return &shorter
	}
	return r
}

// refreshDue reports whether the answer is in the last tenth of its TTL, and may be refreshed.
func (e *entry) refreshDue(now time.Time) bool {
	return e.ttl >= refreshMinTTL && e.Expires.Sub(now) <= e.ttl/10 && !e.inBackOff(now)
}

// refreshAhead may start a lookup that replaces an answer before it expires: for a quarter of the hits in the last
// tenth of its TTL, and for all in the last twentieth. So answers that arrived together are not refreshed together. It
// is called for hits only, so an entry that is not in use is never refreshed; neither is one for an untrusted lookup.
func (c *Cache) refreshAhead(e *entry, effort dns.Effort, now time.Time) {
	if !effort.Untrusted && e.refreshDue(now) && (e.Expires.Sub(now) <= e.ttl/20 || rand.IntN(4) == 0) {
		c.refreshes.start(dns.Question{Name: e.Name, Type: e.Type})
	}
}

// refreshIfDue makes the lookup of a refresh, unless another has just replaced the answer. Nothing uses its result.
func (c *Cache) refreshIfDue(q dns.Question) (*dns.RRset, error) {
	if e, _ := c.shardOf(q).get(q, c.options.Epoch()); !e.refreshDue(time.Now()) {
		return nil, nil
	}
	c.stats.refreshed.Add(1)
	return c.ask(q)
}
