package resolver

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
)

// CacheOptions are for NewCache.
type CacheOptions struct {
	// MaxEntries bounds the entries, 400,000 by default and never less than 64. Their size is bounded with it, to MaxBytes
	// of it, so that huge answers of a stranger cannot fill the memory.
	MaxEntries int
	// MaxBytes bounds their size where that is less; 0: not.
	MaxBytes int64
	// Generation says which world answers are of; nil: there is but one.
	Generation func() Generation
	Logger     *slog.Logger
}

// Cache is a Resolver that remembers the answers and the failures of another. It keeps facts until their TTL
// ends, and never lets a live secure answer be displaced by an insecure one or by a failure.
type Cache struct {
	next       Resolver
	worldly    worldly // next, if it knows of which generation its answers are
	generation func() Generation
	log        *slog.Logger
	seed       maphash.Seed
	shards     [shards]*shard
	maxBytes   int64 // 0: none
	flights    singleflight.Group
	queue      *semaphore.Weighted // for flights, running or waiting
	room       *semaphore.Weighted // for flights that run
	refreshes  chan Question
	worlds     atomic.Pointer[Generation] // the last that an answer was of
	stats      cacheCounters
}

const (
	shards        = 64
	maxQueue      = 16384
	maxFlights    = 1024
	flightTimeout = 15 * time.Second // a Stub gives up after 12 s
	refreshQueue  = 1024
	maxStale      = time.Hour
	maxBackOff    = 5 * time.Minute // RFC 9520 section 3.2
)

type cacheCounters struct {
	hits, misses, failures, stale, kept, evicted, refreshed atomic.Uint64
	changes                                                 atomic.Uint64 // entries put and removed
	secure, insecure, bogus, failed                         atomic.Uint64
}

// CacheStats are counters since the start, and the size.
type CacheStats struct {
	Entries int
	// Bytes is about what the entries take in memory, MaxBytes what they may take.
	Bytes, MaxBytes int64
	// Hits counts answers from the cache, Misses those that were asked for, Failures remembered failures,
	// Stale expired secure answers given for a failing resolver.
	Hits, Misses, Failures, Stale uint64
	// Kept counts insecure answers that did not displace a live secure one.
	Kept               uint64
	Evicted, Refreshed uint64
	// What came from the resolver, each answer once, however often it was given since. Bogus are the failures of which
	// the resolver said so, Failed all others.
	Secure, Insecure, Bogus, Failed uint64
}

// NewCache returns an empty cache before next. Run it for refresh ahead and for the sweeping of what has expired.
func NewCache(next Resolver, o CacheOptions) *Cache {
	known, _ := next.(worldly)
	if o.Generation == nil {
		known, o.Generation = nil, func() Generation { return Generation{} }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cache{
		next: next, worldly: known, maxBytes: o.MaxBytes, generation: o.Generation, log: o.Logger, seed: maphash.MakeSeed(),
		queue: semaphore.NewWeighted(maxQueue), room: semaphore.NewWeighted(maxFlights), refreshes: make(chan Question, refreshQueue),
	}
	for i := range c.shards {
		c.shards[i] = newShard(&c.stats)
	}
	c.SetMaxEntries(o.MaxEntries)
	return c
}

// MaxBytes is how many bytes so many entries may take in all: 1 KiB for each, but never less than 32 MiB.
func MaxBytes(entries int) int64 {
	const each, least = 1 << 10, 32 << 20
	return max(int64(entries)*each, least)
}

// SetMaxEntries changes the bound; what is too much goes as new entries come.
func (c *Cache) SetMaxEntries(n int) {
	if n <= 0 {
		n = 400_000
	}
	bytes := MaxBytes(n)
	if c.maxBytes > 0 {
		bytes = min(bytes, c.maxBytes)
	}
	for _, s := range c.shards {
		s.setLimit(max(n/shards, 1), bytes/shards)
	}
}

// Stats returns the counters as they are.
func (c *Cache) Stats() CacheStats {
	n := &c.stats
	st := CacheStats{
		Hits: n.hits.Load(), Misses: n.misses.Load(), Failures: n.failures.Load(), Stale: n.stale.Load(),
		Kept: n.kept.Load(), Evicted: n.evicted.Load(), Refreshed: n.refreshed.Load(),
		Secure: n.secure.Load(), Insecure: n.insecure.Load(), Bogus: n.bogus.Load(), Failed: n.failed.Load(),
	}
	for _, s := range c.shards {
		entries, bytes, most := s.size()
		st.Entries += entries
		st.Bytes += bytes
		st.MaxBytes += most
	}
	return st
}

// Version tells two moments between which no answer came, went or changed from others, but for answers that
// expired meanwhile. It costs next to nothing.
func (c *Cache) Version() Version {
	g := c.generation()
	return Version(c.stats.changes.Load() + g.Secure + g.Any)
}

// Version is a moment in the life of a Cache. It is a sum of what only grows, so it never comes again; and where that grew
// while it was summed up, it is of a moment in between, or of none.
type Version uint64

// canonical returns the question as the cache keys it. It does not allocate where the name is so already.
func canonical(q Question) Question {
	q.Name = lower(trimRoot(q.Name))
	return q
}

// world returns a Generation for an entry to point to: one for all that have the same.
func (c *Cache) world(g Generation) *Generation {
	if w := c.worlds.Load(); w != nil && *w == g {
		return w
	}
	c.worlds.Store(&g)
	return &g
}

func (c *Cache) shard(q Question) *shard {
	return c.shards[maphash.String(c.seed, q.Name)%shards]
}

// Lookup returns a live answer or a remembered failure, or asks. Concurrent callers share one query, which goes on
// when they give up. The error is an *Error.
func (c *Cache) Lookup(ctx context.Context, q Question) (*RRset, error) {
	q = canonical(q)
	const tries = 2
	for range tries {
		if r, err := c.remembered(q); !errors.Is(err, ErrNotCached) {
			return r, err
		}
		c.stats.misses.Add(1)
		select {
		case result := <-c.flight(ctx, q):
			if result.Err != nil {
				return nil, result.Err
			}
			if l, ok := result.Val.(landing); ok && l.generation == c.generation() {
				return l.rrset, nil
			}
			// Of a world that has ended meanwhile.
		case <-ctx.Done():
			return c.lastResort(ctx, q)
		}
	}
	return nil, &Error{Question: q, Reason: "the DNS servers keep changing"}
}

// lastResort is for a caller whose time is over: a resolver that takes so long is failing.
func (c *Cache) lastResort(ctx context.Context, q Question) (*RRset, error) {
	e, now, g := c.shard(q).get(q), time.Now(), c.generation()
	if e != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && (e.alive(now, g) || e.stale(now, g)) {
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	return nil, &Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
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
		e.use(q)
		if !q.Passive {
			c.refreshAhead(e, now)
		}
		return e.rrset, nil
	}
	if !e.failed(now, generation) {
		return nil, ErrNotCached
	}
	e.use(q)
	if e.stale(now, generation) {
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	c.stats.failures.Add(1)
	return nil, e.failure()
}
