package dnscache

import (
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// store keeps an answer and returns what the callers get: the answer, or the live secure one that it does not replace.
func (c *Cache) store(q dns.Question, r *dns.RRset) *dns.RRset {
	c.stats.answers[r.Status].Add(1)
	arrived := time.Now()
	r = capped(r, arrived)
	s, epoch := c.shard(q), c.options.Epoch()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, _ := s.get(q, epoch)
	contradicted := old.Status == dns.Secure && r.Status != dns.Secure
	if contradicted && c.options.Doubt != nil {
		c.options.Doubt()
	}
	switch {
	case old.alive(arrived) && old.Status == dns.Secure && (contradicted || r.Stale):
		// Only a fresh secure answer replaces a secure one.
		c.stats.kept.Add(1)
		if contradicted && !old.warned {
			old.warned = true
			s.put(s.with(q, &old))
			c.options.Logger.Warn("keeping a secure answer although an insecure one arrived",
				"name", q.Name, "type", q.Type.String(), "expires", old.Expires)
		}
		return old.answer()
	case r.Epoch != epoch.Answers: // void already
	default:
		const share = 4 // of the shard: a larger node would evict many others
		e := newEntry(r, arrived)
		n, confirmed := s.with(q, &e), e.confirms(&old)
		if !arrived.Before(r.Expires) || n.weigh() > s.bytesLimit/share {
			n, confirmed = s.with(q, nil), false
		}
		s.put(n)
		if old.alive(arrived) && !confirmed {
			c.stats.changes.Add(1)
		}
	}
	return r
}

// storeFailure notes a failure beside an answer that may still be of use. It returns that answer, or the failure.
func (c *Cache) storeFailure(q dns.Question, f *dns.Error) (*dns.RRset, *dns.Error) {
	if f.Bogus {
		c.stats.bogus.Add(1)
	} else {
		c.stats.failed.Add(1)
	}
	s, now, epoch := c.shard(q), time.Now(), c.options.Epoch()
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.get(q, epoch)
	backOff := max(minBackOff, min(2*e.backOff, maxBackOff))
	if !e.usable(now) {
		e = unknown(q)
	}
	if f.Epoch == epoch { // otherwise it is void already
		e.failure, e.backOff, e.retry = *f, backOff, now.Add(backOff)
		e.Epoch = f.Epoch.Answers
		s.put(s.with(q, &e))
	}
	switch {
	case !e.usable(now):
		return nil, f
	case !e.alive(now):
		c.stats.stale.Add(1)
	}
	return e.answer(), nil
}
