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
	// A failure is not tried again for minBackOff, then for twice as long each time, up to maxBackOff (RFC 9520 section
	// 3.2).
	minBackOff = time.Second
	maxBackOff = 5 * time.Minute
	// refreshMinTTL is how long an answer must live to be refreshed ahead of its expiry.
	refreshMinTTL = time.Minute
)

// capped returns r, or a copy that expires at the cap.
func capped(r *dns.RRset, now time.Time) *dns.RRset {
	most := maxTTL
	if r.Empty() {
		most = maxDenialTTL
	}
	if r.Stale {
		most = maxStaleTTL
	}
	if end := now.Add(most); r.Expires.After(end) {
		shorter := *r
		shorter.Expires = end
		return &shorter
	}
	return r
}

// due reports whether the answer is in the last tenth of its life, and may be refreshed.
func (e *entry) due(now time.Time) bool {
	return e.life >= refreshMinTTL && e.Expires.Sub(now) <= e.life/10 && !e.waits(now)
}

// refreshAhead looks an entry up again in the background, once: in the last tenth of its life, earlier or later by
// chance, so that answers which arrived together are not refreshed together. It is called for hits only, so an entry
// that is not in use is never refreshed; neither is one for an untrusted lookup.
func (c *Cache) refreshAhead(e *entry, by dns.Effort, now time.Time) {
	if !by.Untrusted && e.due(now) && (e.Expires.Sub(now) <= e.life/20 || rand.IntN(4) == 0) {
		c.ahead.start(dns.Question{Name: e.Name, Type: e.Type})
	}
}
