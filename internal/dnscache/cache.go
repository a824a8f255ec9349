// Package dnscache keeps the answers and the failures of another resolver.
package dnscache

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// Options are for New.
type Options struct {
	// MaxEntries bounds the number of entries, 400,000 by default and never less than 64. It also bounds their size, to
	// MaxBytes(MaxEntries), so that huge answers of a remote party cannot fill the memory.
	MaxEntries int
	// MaxBytes bounds their size if it is less than that; 0: no further bound.
	MaxBytes int64
	// Epoch returns the present epoch of the next resolver. Without it answers are kept whatever their epoch.
	Epoch func() dns.Epoch
	// Doubt, if not nil, is called when an insecure answer arrives although a live answer to the question is secure: the
	// resolver may no longer validate. It must not block.
	Doubt  func()
	Logger *slog.Logger
}

// Cache is a Resolver that remembers the answers and the failures of another. It keeps facts until their TTL
// ends, and never lets a live secure answer be displaced by an insecure one or by a failure.
type Cache struct {
	next      dns.Resolver
	epoch     func() dns.Epoch
	log       *slog.Logger
	seed      maphash.Seed
	shards    [shards]*shard
	maxBytes  int64 // 0: none
	doubt     func()
	refreshes chan dns.Question
	// deliveries and untrusted are for lookups without and with dns.Effort.Untrusted.
	deliveries, untrusted *share
	stats                 counters
}

const (
	shards       = 64
	refreshQueue = 1024
)

type counters struct {
	hits, misses, failures, stale, kept, evicted, refreshed atomic.Uint64
	changes                                                 atomic.Uint64 // entries put and removed
	secure, insecure, bogus, failed                         atomic.Uint64
}

// Stats are counters since the start, and the size.
type Stats struct {
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

// New returns an empty cache of the answers of next. Run refreshes entries ahead of their expiry and removes expired ones.
func New(next dns.Resolver, o Options) *Cache {
	if o.Epoch == nil {
		next, o.Epoch = timeless{next}, func() dns.Epoch { return dns.Epoch{} }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Doubt == nil {
		o.Doubt = func() {}
	}
	c := &Cache{
		next: next, maxBytes: o.MaxBytes, epoch: o.Epoch, log: o.Logger, seed: maphash.MakeSeed(),
		doubt: o.Doubt, refreshes: make(chan dns.Question, refreshQueue),
		deliveries: newShare(maxCalls, maxWaiting), untrusted: newShare(maxUntrustedCalls, maxUntrustedWaiting),
	}
	for i := range c.shards {
		c.shards[i] = newShard(&c.stats)
	}
	c.SetMaxEntries(o.MaxEntries)
	return c
}

// timeless is a resolver without epochs.
type timeless struct{ dns.Resolver }

func (t timeless) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	r, err := t.Resolver.Lookup(ctx, q, e)
	if r != nil && r.Epoch != 0 {
		r.Epoch = 0
	}
	if failure, ok := errors.AsType[*dns.Error](err); ok && failure.Epoch != (dns.Epoch{}) {
		failure.Epoch = dns.Epoch{}
	}
	return r, err
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
func (c *Cache) Stats() Stats {
	n := &c.stats
	st := Stats{
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
	e := c.epoch()
	return Version(c.stats.changes.Load() + uint64(e.Answers) + uint64(e.Failures))
}

// Version is a moment in the life of a Cache. It is a sum of what only grows, so it never comes again; and where that grew
// while it was summed up, it is of a moment in between, or of none.
type Version uint64

// canonical returns the question as the cache keys it. It does not allocate where the name is so already.
func canonical(q dns.Question) dns.Question {
	q.Name = dns.Lower(dns.TrimRoot(q.Name))
	return q
}

func (c *Cache) shard(q dns.Question) *shard {
	return c.shards[maphash.String(c.seed, q.Name)%shards]
}

// Lookup returns a live answer or a remembered failure, or asks the next resolver unless e.CacheOnly is set. It starts no
// call after ctx has ended. Concurrent callers share one call, which goes on when they give up. The error is a *dns.Error, or
// dns.ErrNotCached.
func (c *Cache) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	q = canonical(q)
	const tries = 2
	for changed := 0; changed < tries; changed++ {
		r, err := c.remembered(q, e)
		if e.CacheOnly || !errors.Is(err, dns.ErrNotCached) {
			return r, err
		}
		if ctx.Err() != nil {
			return c.lastResort(ctx, q)
		}
		c.stats.misses.Add(1)
		select {
		case result := <-c.ask(ctx, q, e):
			if errors.Is(result.Err, errAbandoned) {
				changed--
				continue
			}
			if result.Err != nil {
				return nil, result.Err
			}
			if r, ok := result.Val.(*dns.RRset); ok && r.Epoch == c.epoch().Answers {
				return r, nil
			}
			// The servers changed during this lookup: its answer no longer counts, so ask again.
		case <-ctx.Done():
			return c.lastResort(ctx, q)
		}
	}
	return nil, &dns.Error{Question: q, Reason: "the DNS servers keep changing"}
}

// lastResort answers a caller whose deadline has passed: a resolver that takes so long counts as failing.
func (c *Cache) lastResort(ctx context.Context, q dns.Question) (*dns.RRset, error) {
	e, now, g := c.shard(q).get(q), time.Now(), c.epoch()
	if e != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && (e.alive(now, g) || e.stale(now, g)) {
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
}

// remembered answers from the cache.
func (c *Cache) remembered(q dns.Question, by dns.Effort) (*dns.RRset, error) {
	e := c.shard(q).get(q)
	if e == nil {
		return nil, dns.ErrNotCached
	}
	now, g := time.Now(), c.epoch()
	if e.alive(now, g) {
		c.stats.hits.Add(1)
		e.use(by)
		if !by.Untrusted {
			c.refreshAhead(e, now)
		}
		return e.rrset, nil
	}
	if !e.failed(now, g) {
		return nil, dns.ErrNotCached
	}
	e.use(by)
	if e.stale(now, g) {
		c.stats.stale.Add(1)
		return e.rrset, nil
	}
	c.stats.failures.Add(1)
	return nil, e.failure()
}
