package resolver

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
)

// CacheOptions are for NewCache.
type CacheOptions struct {
	// MaxEntries bounds the entries, 400,000 by default and never less than 64.
	MaxEntries int
	// Generation says which world answers are of; nil: there is but one.
	Generation func() Generation
	Logger     *slog.Logger
}

// Cache is a Resolver that remembers the answers and the failures of another. It keeps facts until their TTL
// ends, and never lets a live secure answer be displaced by an insecure one or by a failure.
type Cache struct {
	next       Resolver
	generation func() Generation
	log        *slog.Logger
	seed       maphash.Seed
	shards     [shards]*shard
	flights    singleflight.Group
	room       *semaphore.Weighted // for flights
	refreshes  chan Question
	stats      cacheCounters
}

const (
	shards        = 64
	maxFlights    = 1024
	flightTimeout = 15 * time.Second // a Stub gives up after 12 s
	refreshQueue  = 1024
	maxStale      = time.Hour
	maxBackOff    = 5 * time.Minute // RFC 9520 section 3.2
)

type cacheCounters struct {
	hits, misses, failures, stale, kept, evicted, refreshed atomic.Uint64
}

// CacheStats are counters since the start, and the size.
type CacheStats struct {
	Entries int
	// Hits counts answers from the cache, Misses those that were asked for, Failures remembered failures,
	// Stale expired secure answers given for a failing resolver.
	Hits, Misses, Failures, Stale uint64
	// Kept counts insecure answers that did not displace a live secure one.
	Kept               uint64
	Evicted, Refreshed uint64
}

// NewCache returns an empty cache before next. Run it for refresh ahead and for the sweeping of what has expired.
func NewCache(next Resolver, o CacheOptions) *Cache {
	if o.Generation == nil {
		o.Generation = func() Generation { return Generation{} }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cache{
		next: next, generation: o.Generation, log: o.Logger, seed: maphash.MakeSeed(),
		room: semaphore.NewWeighted(maxFlights), refreshes: make(chan Question, refreshQueue),
	}
	for i := range c.shards {
		c.shards[i] = newShard(&c.stats)
	}
	c.SetMaxEntries(o.MaxEntries)
	return c
}

// SetMaxEntries changes the bound; what is too much goes as new entries come.
func (c *Cache) SetMaxEntries(n int) {
	if n <= 0 {
		n = 400_000
	}
	for _, s := range c.shards {
		s.setLimit(max(n/shards, 1))
	}
}

// Stats returns the counters as they are.
func (c *Cache) Stats() CacheStats {
	st := CacheStats{
		Hits: c.stats.hits.Load(), Misses: c.stats.misses.Load(), Failures: c.stats.failures.Load(), Stale: c.stats.stale.Load(),
		Kept: c.stats.kept.Load(), Evicted: c.stats.evicted.Load(), Refreshed: c.stats.refreshed.Load(),
	}
	for _, s := range c.shards {
		st.Entries += s.len()
	}
	return st
}

// canonical returns the question as the cache keys it. It does not allocate where the name is so already.
func canonical(q Question) Question {
	q.Name = strings.ToLower(strings.TrimSuffix(q.Name, "."))
	return q
}

func (c *Cache) shard(q Question) *shard {
	return c.shards[maphash.String(c.seed, q.Name)%shards]
}

// Lookup returns a live answer or a remembered failure, or asks. Concurrent callers share one query, which goes on
// when they give up. The error is an *Error.
func (c *Cache) Lookup(ctx context.Context, q Question) (*RRset, error) {
	q = canonical(q)
	if r, err := c.remembered(q); !errors.Is(err, ErrNotCached) {
		return r, err
	}
	c.stats.misses.Add(1)
	flight := c.flights.DoChan(q.Type.String()+" "+q.Name, func() (any, error) { return c.fly(ctx, q) })
	select {
	case landed := <-flight:
		r, _ := landed.Val.(*RRset)
		return r, landed.Err
	case <-ctx.Done():
		return nil, &Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
	}
}

// Cached returns a view of the cache that never waits: what is not in the cache is ErrNotCached.
func (c *Cache) Cached() Resolver { return cached{c} }

type cached struct{ cache *Cache }

func (v cached) Lookup(_ context.Context, q Question) (*RRset, error) {
	return v.cache.remembered(canonical(q))
}

// remembered answers from the cache.
func (c *Cache) remembered(q Question) (*RRset, error) {
	e := c.shard(q).get(q)
	if e == nil {
		return nil, ErrNotCached
	}
	now, generation := time.Now(), c.generation()
	if e.alive(now, generation) {
		c.stats.hits.Add(1)
		e.used.Store(true)
		if !q.Passive {
			c.refreshAhead(e, now)
		}
		return e.rrset, nil
	}
	if !e.failed(now, generation) {
		return nil, ErrNotCached
	}
	e.used.Store(true)
	if e.stale(now, generation) {
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	c.stats.failures.Add(1)
	return nil, e.failure
}

// fly asks the next resolver and stores what it says. It is not cancelled with the caller that began it.
func (c *Cache) fly(ctx context.Context, q Question) (r *RRset, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a DNS lookup: please report this", "name", q.Name, "type", q.Type.String())
			r, err = nil, &Error{Question: q, Reason: "internal error"}
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	if c.room.Acquire(ctx, 1) != nil {
		return nil, &Error{Question: q, Reason: "too many lookups at once"}
	}
	defer c.room.Release(1)
	const tries = 2
	for range tries {
		generation := c.generation()
		r, err = c.next.Lookup(ctx, q)
		if c.generation() == generation {
			return c.store(q, r, err, generation)
		}
		// Of a world that has ended meanwhile.
	}
	return nil, &Error{Question: q, Reason: "the DNS servers keep changing"}
}

// store remembers what the next resolver said, and returns what the callers get: a live secure answer is replaced
// by a secure one only, and by no failure.
func (c *Cache) store(q Question, r *RRset, err error, g Generation) (*RRset, error) {
	now := time.Now()
	s := c.shard(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.get(q)
	live := old != nil && old.alive(now, g)
	if err != nil {
		return c.storeFailure(s, old, q, err, g)
	}
	switch {
	case live && old.rrset.Status == Secure && r.Status != Secure:
		c.stats.kept.Add(1)
		c.log.Warn("a secure answer is kept against an insecure one until it expires", "name", q.Name, "type", q.Type.String(), "expires", old.rrset.Expires)
		return old.rrset, nil
	case !now.Before(r.Expires):
		if live {
			s.remove(old)
		}
	default:
		s.put(&entry{question: Question{Name: q.Name, Type: q.Type}, rrset: r, stored: now, generation: g}, old)
	}
	return r, nil
}

// storeFailure notes a failure beside what may still be of use; s.mu is held.
func (c *Cache) storeFailure(s *shard, old *entry, q Question, err error, g Generation) (*RRset, error) {
	var failure *Error
	if !errors.As(err, &failure) {
		failure = &Error{Question: q, Reason: printable(err.Error()), Err: err}
	}
	now := time.Now()
	e := &entry{question: Question{Name: q.Name, Type: q.Type}, failure: failure, backOff: time.Second, generation: g}
	if old != nil {
		if old.failure != nil && old.generation == g {
			e.backOff = min(2*old.backOff, maxBackOff)
		}
		if old.alive(now, g) || old.stale(now, g) {
			e.rrset, e.stored = old.rrset, old.stored
		}
	}
	e.retry = now.Add(e.backOff)
	s.put(e, old)
	switch {
	case e.alive(now, g):
		return e.rrset, nil
	case e.stale(now, g):
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	return nil, failure
}
