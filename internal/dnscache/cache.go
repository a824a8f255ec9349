// Package dnscache keeps the answers and the failures of another resolver.
//
// The life of a failure:
//
//  1. A lookup that the cache cannot answer calls the next resolver, which returns a *dns.Error. Concurrent lookups of
//     the same question wait for the same call.
//  2. A live answer stays, and the callers receive it. An expired secure MX or TLSA RRset is served for one hour more.
//     Otherwise the callers receive the failure, and must defer.
//  3. The failure is kept beside the answer. For one second the question is not asked again (RFC 9520 section 3.2).
//  4. Each further failure doubles this back-off, up to five minutes. An answer ends it, unless an earlier one stays.
//  5. It also ends when the epoch changes: the failure then says nothing about the name, because the servers, the trust
//     in them or the result of their self-test have changed, or an outage of all servers has ended.
//  6. Five minutes after its back-off the failure is removed, if no answer beside it can be used.
package dnscache

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// Options are the options of New.
type Options struct {
	// MaxEntries bounds the number of entries, 400,000 by default and never less than 64. It also bounds their size, to
	// MaxBytes(MaxEntries), so that huge answers of a remote party cannot fill the memory.
	MaxEntries int
	// MaxBytes bounds their size if it is less than that; 0: no further bound.
	MaxBytes int64
	// Epoch returns the current epoch of the next resolver. Nil means that the epoch never changes.
	Epoch func() dns.Epoch
	// Contradicted, if not nil, is called when an insecure answer arrives although the last answer to the question,
	// live or just expired, is secure: the resolver may no longer validate. It must not block.
	Contradicted func()
	Logger       *slog.Logger
}

// Cache is a dns.Resolver in front of another. It keeps answers until their TTL ends. A live secure answer is never
// replaced by an insecure one or by a failure.
type Cache struct {
	next    dns.Resolver
	options Options // the options, with defaults filled in
	seed    maphash.Seed
	shards  [shardCount]*shard
	ended   chan struct{} // closed: dns.Call.Done of calls that need no work
	// deliveries and untrusted are for lookups without and with dns.Effort.Untrusted.
	deliveries, untrusted, refreshes *callPool
	stats                            counters
}

const shardCount = 64

type counters struct {
	hits, misses, failures, stale, kept, evicted, refreshed atomic.Uint64
	changes                                                 atomic.Uint64 // live answers that were removed or replaced
	bogus, failed                                           atomic.Uint64
	answers                                                 [dns.Secure + 1]atomic.Uint64 // by their status
}

// Stats are counters since the start, and the size.
type Stats struct {
	Entries    int    `json:"entries"`
	Bytes      int64  `json:"bytes"`     // estimated memory of the entries
	MaxBytes   int64  `json:"max_bytes"` // limit for Bytes
	Hits       uint64 `json:"hits"`      // answers from the cache
	Misses     uint64 `json:"misses"`    // lookups that called the next resolver
	Failures   uint64 `json:"failures"`  // failures from the cache
	Stale      uint64 `json:"stale"`     // expired secure answers that were served because the resolver failed
	Kept       uint64 `json:"kept"`      // answers that did not replace a live secure one
	Evicted    uint64 `json:"evicted"`
	Refreshed  uint64 `json:"refreshed"`
	MaxEntries int    `json:"max_entries"`
	// Answers counts the answers of the next resolver as secure or insecure, and its failures as bogus or failed.
	Answers map[string]uint64 `json:"answers"`
}

// New returns an empty cache in front of next. It calls next without a deadline, so next must bound each lookup. Run
// removes expired answers.
func New(next dns.Resolver, o Options) *Cache {
	if o.Epoch == nil {
		o.Epoch = func() dns.Epoch { return dns.Epoch{} }
	}
	o.MaxBytes = cmp.Or(o.MaxBytes, math.MaxInt64)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	c := &Cache{next: next, options: o, seed: maphash.MakeSeed(), ended: make(chan struct{})}
	close(c.ended)
	c.deliveries = newCallPool(c, maxDeliveries, c.ask)
	c.untrusted = newCallPool(c, maxUntrusted, c.ask)
	c.refreshes = newCallPool(c, maxRefreshes, c.refreshIfDue)
	for i := range c.shards {
		c.shards[i] = newShard(&c.stats)
	}
	c.SetMaxEntries(o.MaxEntries)
	return c
}

// MaxBytes returns how many bytes that many entries may take: 1 KiB each, and at least 32 MiB.
func MaxBytes(entries int) int64 {
	return max(int64(entries)<<10, 32<<20)
}

// SetMaxEntries changes the bound. Entries in excess are evicted as new ones are stored.
func (c *Cache) SetMaxEntries(n int) {
	n = cmp.Or(max(n, 0), 400_000)
	bytes := min(MaxBytes(n), c.options.MaxBytes)
	for i, s := range c.shards {
		s.mu.Lock()
		s.limit, s.bytesLimit = max((n+i)/shardCount, 1), bytes/shardCount // the limits add up to n
		s.mu.Unlock()
	}
}

// Run removes entries that can no longer be used, until ctx ends. While it runs, workers make calls for deliveries.
func (c *Cache) Run(ctx context.Context) error {
	c.deliveries.startWorkers(ctx)
	tick := time.Tick(time.Second)
	for i := 0; ; i++ { // one shard per second
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
			now := time.Now()
			c.shards[i%shardCount].removeIf(c.options.Epoch, func(e *entry) bool { return e.removable(now) })
		}
	}
}

// Stats returns the current counters.
func (c *Cache) Stats() Stats {
	n := &c.stats
	st := Stats{
		Hits: n.hits.Load(), Misses: n.misses.Load(), Failures: n.failures.Load(), Stale: n.stale.Load(),
		Kept: n.kept.Load(), Evicted: n.evicted.Load(), Refreshed: n.refreshed.Load(),
		Answers: map[string]uint64{
			"secure": n.answers[dns.Secure].Load(), "insecure": n.answers[dns.Insecure].Load(),
			"bogus": n.bogus.Load(), "failed": n.failed.Load(),
		},
	}
	for _, s := range c.shards {
		s.mu.Lock()
		st.Entries += s.count
		st.Bytes += s.bytes
		st.MaxEntries += s.limit
		st.MaxBytes += s.bytesLimit
		s.mu.Unlock()
	}
	return st
}

// Version returns a value that is equal at two moments only if no answer that was live at the first was removed or
// changed between them. It can have expired, and others can have been stored. It is never 0.
func (c *Cache) Version() uint64 {
	e := c.options.Epoch() // its counters only grow too, so a value does not return
	return 1 + c.stats.changes.Load() + uint64(e.Answers) + uint64(e.Failures)
}

func (c *Cache) shardOf(q dns.Question) *shard {
	name, _ := locate(q)
	return c.shards[maphash.String(c.seed, name)%shardCount]
}

// Lookup returns a live answer or a remembered failure, or asks the next resolver unless e.CacheOnly is set. It
// starts no call after ctx has ended. Concurrent callers share one call, which continues when they give up. The error
// is a *dns.Error, or dns.ErrNotCached with e.CacheOnly.
func (c *Cache) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	return dns.Ask(ctx, c, q, e, time.Now().Add(math.MaxInt64)) // waits as long as ctx allows
}

// Start starts a Lookup, and does not wait.
func (c *Cache) Start(ctx context.Context, q dns.Question, e dns.Effort) *dns.Call {
	q.Name = dns.Lower(dns.TrimRoot(q.Name)) // does not allocate if the name has that form already
	r, err := c.remembered(q, e, dns.Late(ctx))
	if !e.CacheOnly && errors.Is(err, dns.ErrNotCached) {
		if ctx.Err() == nil {
			c.stats.misses.Add(1)
			if e.Untrusted {
				return c.untrusted.start(q)
			}
			return c.deliveries.start(q)
		}
		err = &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
	}
	return &dns.Call{Question: q, Done: c.ended, RRset: r, Err: err}
}

// remembered returns the answer or the failure that is known. If the caller's deadline has passed (late), the resolver
// counts as failing, because it takes so long.
func (c *Cache) remembered(q dns.Question, effort dns.Effort, late bool) (*dns.RRset, error) {
	e, n := c.shardOf(q).get(q, c.options.Epoch())
	now := time.Now()
	known := e.live(now) || e.inBackOff(now) || late && e.liveOrStale(now)
	if !known {
		return nil, dns.ErrNotCached
	}
	// An untrusted lookup does not count as use: a remote party could otherwise evict what this site needs.
	if !effort.Untrusted && !n.used.Load() {
		n.used.Store(true)
	}
	switch {
	case e.live(now):
		c.stats.hits.Add(1)
		c.refreshAhead(&e, effort, now)
	case e.liveOrStale(now):
		c.stats.stale.Add(1)
	default:
		c.stats.failures.Add(1)
		failure := e.failure
		return nil, &failure
	}
	return e.answer(), nil
}
