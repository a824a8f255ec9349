package dnscache

import (
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// store keeps an answer and returns what the callers get: the answer, or the live secure one that it does not replace.
func (c *Cache) store(q dns.Question, r *dns.RRset) *dns.RRset {
	if r.Status == dns.Secure {
		c.stats.secure.Add(1)
	} else {
		c.stats.insecure.Add(1)
	}
	r = capped(r, time.Now())
	s, now, epoch := c.shard(q), c.now(), c.epoch()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, _ := s.get(q)
	contradicted := old != nil && old.valid(epoch) && old.Status == dns.Secure && r.Status != dns.Secure
	if contradicted && c.doubt != nil {
		c.doubt()
	}
	switch {
	case old != nil && old.alive(now, epoch) && old.Status == dns.Secure && (contradicted || r.Stale):
		// Only a fresh secure answer replaces a secure one.
		c.stats.kept.Add(1)
		if contradicted && !old.Warned {
			old.Warned = true
			s.put(s.with(q, old))
			c.log.Warn("keeping a secure answer although an insecure one arrived",
				"name", q.Name, "type", q.Type.String(), "expires", c.at(old.Expires))
		}
		return c.answer(old)
	case r.Epoch != epoch.Answers: // void already
	default:
		const share = 4 // of the shard: a larger node would evict many others
		e := c.newEntry(q, r)
		n := s.with(q, e)
		if !time.Now().Before(r.Expires) || n.weigh() > s.bytesLimit/share {
			n, e = s.with(q, nil), nil
		}
		s.put(n)
		if old != nil && old.alive(now, epoch) && !e.confirms(old) {
			c.stats.changes.Add(1)
		}
	}
	return r
}

// newEntry returns the entry for an answer that arrives now.
func (c *Cache) newEntry(q dns.Question, r *dns.RRset) *entry {
	e := &entry{question: q, data: r.Pack(), head: head{
		Status: r.Status, NXDomain: r.NXDomain, Stale: r.Stale, Epoch: r.Epoch,
		Life: uint32(time.Until(r.Expires).Round(time.Second) / time.Second), Expires: ticks(r.Expires.Sub(c.origin)),
	}}
	if r.Owner != r.Name {
		e.owner = r.Owner
	}
	return e
}

// storeFailure notes a failure beside an answer that may still be of use. It returns that answer, or the failure.
func (c *Cache) storeFailure(q dns.Question, f *dns.Error) (*dns.RRset, error) {
	if f.Bogus {
		c.stats.bogus.Add(1)
	} else {
		c.stats.failed.Add(1)
	}
	s, now, epoch := c.shard(q), c.now(), c.epoch()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &entry{question: q}
	old, _ := s.get(q)
	if old != nil && (old.alive(now, epoch) || old.stale(now, epoch)) {
		*e = *old
	}
	backOff := minBackOff
	if old != nil && old.counts(epoch) {
		backOff = min(2*time.Duration(old.BackOff)*time.Second, maxBackOff)
	}
	e.Failed, e.reason = true, f.Reason
	e.failure = failure{Bogus: f.Bogus, Of: f.Epoch, BackOff: uint32(backOff / time.Second),
		Retry: now + ticks(backOff)}
	s.put(s.with(q, e))
	switch {
	case e.alive(now, epoch):
		return c.answer(e), nil
	case e.stale(now, epoch):
		c.stats.stale.Add(1)
		return c.answer(e), nil
	}
	return nil, f
}
