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
	now, epoch := time.Now(), c.epoch()
	r = capped(r, now)
	s := c.shard(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.get(q)
	contradicted := old != nil && old.valid(epoch) && old.rrset.Status == dns.Secure && r.Status != dns.Secure
	if contradicted {
		c.doubt()
	}
	switch {
	case old != nil && old.alive(now, epoch) && protected(old.rrset, r):
		c.stats.kept.Add(1)
		if contradicted && old.mark(warned) {
			c.log.Warn("keeping a secure answer although an insecure one arrived",
				"name", q.Name, "type", q.Type.String(), "expires", old.rrset.Expires)
		}
		return old.rrset
	case r.Epoch != epoch.Answers: // void already
	case now.Before(r.Expires):
		s.put(newEntry(q, r, now), old)
	case old != nil: // superseded by an answer that must not be kept
		s.remove(old)
	}
	return r
}

// storeFailure notes a failure beside an answer that may still be of use. It returns that answer, or the failure.
func (c *Cache) storeFailure(q dns.Question, failure *dns.Error) (*dns.RRset, error) {
	if failure.Bogus {
		c.stats.bogus.Add(1)
	} else {
		c.stats.failed.Add(1)
	}
	now, epoch := time.Now(), c.epoch()
	s := c.shard(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.get(q)
	backOff := minBackOff
	e := &entry{}
	if old != nil {
		if old.counts(epoch) {
			backOff = nextBackOff(old.aside.backOff)
		}
		if old.alive(now, epoch) || old.stale(now, epoch) {
			e.rrset, e.life = old.rrset, old.life
			e.marks.Store(old.marks.Load() & warned)
		}
	}
	e.aside = &aside{question: q, failure: failure, backOff: backOff, retry: now.Add(backOff)}
	s.put(e, old)
	switch {
	case e.alive(now, epoch):
		return e.rrset, nil
	case e.stale(now, epoch):
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	return nil, failure
}
