package dnscache

import (
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// store keeps the result of a lookup, which is r unless there is a failure. It returns what the callers get, the result
// or the earlier answer that it does not replace, and the dns.Epoch.Answers of that.
func (c *Cache) store(q dns.Question, r *dns.RRset, failure *dns.Error) (*dns.RRset, uint32, error) {
	s := c.shard(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	now, present := time.Now(), c.options.Epoch() // with the lock, so that no entry is of a later epoch
	old, _ := s.get(q, present)
	if failure != nil {
		if failure.Bogus {
			c.stats.bogus.Add(1)
		} else {
			c.stats.failed.Add(1)
		}
		if failure.Epoch == present { // otherwise it is void already
			e := old
			e.fail(failure, now)
			s.put(s.with(q, &e))
		}
		switch {
		case !old.usable(now):
			return nil, failure.Epoch.Answers, failure
		case !old.alive(now):
			c.stats.stale.Add(1)
		}
		return old.answer(), old.Epoch, nil
	}
	c.stats.answers[r.Status].Add(1)
	r = capped(r, now)
	contradicted := old.Status == dns.Secure && r.Status != dns.Secure
	if contradicted && c.options.Doubt != nil {
		c.options.Doubt()
	}
	switch {
	case old.alive(now) && old.Status == dns.Secure && (contradicted || r.Stale):
		// Only a fresh secure answer replaces a secure one.
		c.stats.kept.Add(1)
		if contradicted && !old.warned {
			old.warned = true
			s.put(s.with(q, &old))
			c.options.Logger.Warn("keeping a secure answer although an insecure one arrived",
				"name", q.Name, "type", q.Type.String(), "expires", old.Expires)
		}
		return old.answer(), old.Epoch, nil
	case r.Epoch == present.Answers: // otherwise it is void already
		const share = 4 // of the shard: a larger node would evict many others
		e := entry{RRset: *r, data: r.Pack(), life: r.Expires.Sub(now).Round(time.Second)}
		e.Records = nil
		n, confirmed := s.with(q, &e), e.confirms(&old)
		if !now.Before(r.Expires) || n.weigh() > s.bytesLimit/share {
			n, confirmed = s.with(q, nil), false
		}
		s.put(n)
		if old.alive(now) && !confirmed {
			c.stats.changes.Add(1)
		}
	}
	return r, r.Epoch, nil
}
