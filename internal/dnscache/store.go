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
	s, now, epoch := c.shard(q), arrived.Sub(c.origin), c.epoch()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, _ := s.get(q)
	contradicted := old.valid(epoch) && old.status == dns.Secure && r.Status != dns.Secure
	if contradicted && c.doubt != nil {
		c.doubt()
	}
	switch {
	case old.alive(now, epoch) && old.status == dns.Secure && (contradicted || r.Stale):
		// Only a fresh secure answer replaces a secure one.
		c.stats.kept.Add(1)
		if contradicted && !old.warned {
			old.warned = true
			s.put(s.with(q, &old))
			c.log.Warn("keeping a secure answer although an insecure one arrived",
				"name", q.Name, "type", q.Type.String(), "expires", c.origin.Add(old.expires))
		}
		return c.answer(&old)
	case r.Epoch != epoch.Answers: // void already
	default:
		const share = 4 // of the shard: a larger node would evict many others
		e := c.newEntry(q, r, arrived)
		n, confirmed := s.with(q, &e), e.confirms(&old)
		if !arrived.Before(r.Expires) || n.weigh() > s.bytesLimit/share {
			n, confirmed = s.with(q, nil), false
		}
		s.put(n)
		if old.alive(now, epoch) && !confirmed {
			c.stats.changes.Add(1)
		}
	}
	return r
}

// newEntry returns the entry for an answer that arrived then.
func (c *Cache) newEntry(q dns.Question, r *dns.RRset, arrived time.Time) entry {
	e := entry{
		question: q, data: r.Pack(), epoch: dns.Epoch{Answers: r.Epoch}, status: r.Status, nxdomain: r.NXDomain,
		stale: r.Stale, life: r.Expires.Sub(arrived).Round(time.Second), expires: r.Expires.Sub(c.origin),
	}
	if r.Owner != r.Name {
		e.owner = r.Owner
	}
	return e
}

// storeFailure notes a failure beside an answer that may still be of use. It returns that answer, or the failure.
func (c *Cache) storeFailure(q dns.Question, f *dns.Error) (*dns.RRset, *dns.Error) {
	if f.Bogus {
		c.stats.bogus.Add(1)
	} else {
		c.stats.failed.Add(1)
	}
	s, now, epoch := c.shard(q), c.now(), c.epoch()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, _ := s.get(q)
	e := old
	if !old.usable(now, epoch) {
		e = entry{question: q}
	}
	if f.Epoch == epoch { // otherwise it is void already
		backOff := minBackOff
		if old.counts(epoch) {
			backOff = min(2*old.backOff, maxBackOff)
		}
		e.failed, e.bogus, e.reason, e.epoch = true, f.Bogus, f.Reason, f.Epoch
		e.backOff, e.retry = backOff, now+backOff
		s.put(s.with(q, &e))
	}
	switch {
	case !e.usable(now, epoch):
		return nil, f
	case !e.alive(now, epoch):
		c.stats.stale.Add(1)
	}
	return c.answer(&e), nil
}
