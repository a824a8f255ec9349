package resolver

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/policyd/policyd/internal/text"
)

// landing is the answer of a flight, and the world that it is of.
type landing struct {
	rrset      *RRset
	generation Generation
}

// flight asks the next resolver in the background; whoever else wants the same meanwhile gets the same.
func (c *Cache) flight(ctx context.Context, q Question) <-chan singleflight.Result {
	return c.flights.DoChan(q.Type.String()+" "+q.Name, func() (any, error) { return c.fly(ctx, q) })
}

// fly asks the next resolver and stores what it says. It is not cancelled with the caller that began it.
func (c *Cache) fly(ctx context.Context, q Question) (l landing, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a DNS lookup: please report this", "name", q.Name, "type", q.Type.String(), "panic", p)
			l, err = landing{}, &Error{Question: q, Reason: "internal error"}
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	if !c.queue.TryAcquire(1) {
		return landing{}, &Error{Question: q, Reason: "too many lookups at once"}
	}
	defer c.queue.Release(1)
	if c.room.Acquire(ctx, 1) != nil {
		return landing{}, &Error{Question: q, Reason: "too many lookups at once"}
	}
	defer c.room.Release(1)
	q = Question{Name: strings.Clone(q.Name), Type: q.Type} // the caller's name may be a small part of something large
	const tries = 2
	for range tries {
		r, generation, err := c.ask(ctx, q)
		if c.generation() == generation {
			r, err = c.store(q, r, err, generation)
			return landing{rrset: r, generation: generation}, err
		}
		// Of a world that has ended meanwhile.
	}
	return landing{}, &Error{Question: q, Reason: "the DNS servers keep changing"}
}

// worldly is a Resolver that knows of which generation an answer or a failure is.
type worldly interface {
	lookup(ctx context.Context, q Question) (*RRset, Generation, error)
}

// ask asks the next resolver. One that does not know of generations may have asked for its answer in the one before.
func (c *Cache) ask(ctx context.Context, q Question) (*RRset, Generation, error) {
	if c.worldly != nil {
		return c.worldly.lookup(ctx, q)
	}
	before := c.generation()
	r, err := c.next.Lookup(ctx, q)
	return r, before, err
}

// store remembers what the next resolver said, and returns what the callers get: a live secure answer is replaced
// by a secure one only, and by no failure.
func (c *Cache) store(q Question, r *RRset, err error, g Generation) (*RRset, error) {
	if err == nil && (r == nil || r.Status != Secure && r.Status != Insecure) {
		err = &Error{Question: q, Reason: "an answer without a security status"}
	}
	now := time.Now()
	s := c.shard(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.get(q)
	if err != nil {
		return c.storeFailure(old, asError(q, err), q, g)
	}
	if r.Status == Secure {
		c.stats.secure.Add(1)
	} else {
		c.stats.insecure.Add(1)
	}
	switch {
	case old != nil && old.alive(now, g) && old.rrset.Status == Secure && r.Status != Secure:
		c.stats.kept.Add(1)
		if old.mark(warned) {
			c.log.Warn("a secure answer is kept against an insecure one until it expires", "name", q.Name, "type", q.Type.String(), "expires", old.rrset.Expires)
		}
		return old.rrset, nil
	case now.Before(r.Expires):
		e := newEntry(q, r, now)
		e.world = c.world(g)
		s.put(e, old)
	case old != nil: // superseded by an answer that must not be kept
		s.remove(old)
	}
	return r, nil
}

func asError(q Question, err error) *Error {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure
	}
	return &Error{Question: q, Reason: text.Printable(err.Error()), Err: err}
}

// storeFailure notes a failure beside what may still be of use; the mutex of the shard is held.
func (c *Cache) storeFailure(old *entry, failure *Error, q Question, g Generation) (*RRset, error) {
	if failure.Bogus {
		c.stats.bogus.Add(1)
	} else {
		c.stats.failed.Add(1)
	}
	now := time.Now()
	backOff := time.Second
	e := &entry{world: c.world(g)}
	if old != nil {
		if old.failure() != nil && *old.world == g && !old.failure().over() {
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
