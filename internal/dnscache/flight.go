package dnscache

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

// flight asks the next resolver in the background; whoever else wants the same meanwhile gets the same.
func (c *Cache) flight(ctx context.Context, q dns.Question) <-chan singleflight.Result {
	return c.flights.DoChan(q.Type.String()+" "+q.Name, func() (any, error) { return c.fly(ctx, q) })
}

// fly asks the next resolver and stores what it says. It is not cancelled with the caller that began it.
func (c *Cache) fly(ctx context.Context, q dns.Question) (r *dns.RRset, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a DNS lookup: please report this", "name", q.Name, "type", q.Type.String(), "panic", p)
			r, err = nil, &dns.Error{Question: q, Reason: "internal error"}
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	if !c.queue.TryAcquire(1) {
		return nil, &dns.Error{Question: q, Reason: "too many lookups at once"}
	}
	defer c.queue.Release(1)
	if c.room.Acquire(ctx, 1) != nil {
		return nil, &dns.Error{Question: q, Reason: "too many lookups at once"}
	}
	defer c.room.Release(1)
	q = dns.Question{Name: strings.Clone(q.Name), Type: q.Type} // the caller's name may be a small part of something large
	before := c.epoch()
	r, err = c.next.Lookup(ctx, q, dns.Effort{})
	var failure *dns.Error
	switch {
	case err == nil && (r == nil || r.Status != dns.Secure && r.Status != dns.Insecure):
		failure = &dns.Error{Question: q, Reason: "an answer without a security status", Epoch: before}
	case err != nil && !errors.As(err, &failure):
		failure = &dns.Error{Question: q, Reason: text.Printable(err.Error()), Epoch: before, Err: err}
	}
	return c.store(q, r, failure)
}

// store remembers what the next resolver said, and returns what the callers get: a live secure answer is replaced
// by a secure one only, and by no failure.
func (c *Cache) store(q dns.Question, r *dns.RRset, failure *dns.Error) (*dns.RRset, error) {
	now, g := time.Now(), c.epoch()
	s := c.shard(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.get(q)
	if failure != nil {
		return c.storeFailure(old, failure, q, g)
	}
	if r.Status == dns.Secure {
		c.stats.secure.Add(1)
	} else {
		c.stats.insecure.Add(1)
	}
	switch {
	case old != nil && old.alive(now, g) && old.rrset.Status == dns.Secure && r.Status != dns.Secure:
		c.stats.kept.Add(1)
		if old.mark(warned) {
			c.log.Warn("a secure answer is kept against an insecure one until it expires", "name", q.Name, "type", q.Type.String(), "expires", old.rrset.Expires)
		}
		return old.rrset, nil
	case r.Epoch != g.Answers: // void already
	case now.Before(r.Expires):
		s.put(newEntry(q, r, now), old)
	case old != nil: // superseded by an answer that must not be kept
		s.remove(old)
	}
	return r, nil
}

// storeFailure notes a failure beside what may still be of use; the mutex of the shard is held.
func (c *Cache) storeFailure(old *entry, failure *dns.Error, q dns.Question, g dns.Epoch) (*dns.RRset, error) {
	if failure.Bogus {
		c.stats.bogus.Add(1)
	} else {
		c.stats.failed.Add(1)
	}
	now := time.Now()
	backOff := time.Second
	e := &entry{}
	if old != nil {
		if old.counts(g) {
			backOff = min(2*old.aside.backOff, maxBackOff)
		}
		if old.alive(now, g) || old.stale(now, g) {
			e.rrset, e.life = old.rrset, old.life
			e.marks.Store(old.marks.Load() & warned)
		}
	}
	e.aside = &aside{question: q, failure: failure, backOff: backOff, retry: now.Add(backOff)}
	c.shard(q).put(e, old)
	switch {
	case e.alive(now, g):
		return e.rrset, nil
	case e.stale(now, g):
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	return nil, failure
}
