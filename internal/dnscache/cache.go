// Package dnscache keeps the answers and the failures of another resolver.
//
// The life of a failure:
//
//  1. A lookup that the cache cannot answer calls the next resolver, which returns a *dns.Error. Concurrent lookups of
//     the same question wait for the same call.
//  2. A live answer stays, and the callers receive it. An expired secure MX or TLSA RRset is served for one hour more.
//     Otherwise the callers receive the failure, and must defer.
//  3. The failure is kept beside the answer. For one second the question is not asked again (RFC 9520 section 3.2).
//  4. If it then fails again, the time doubles, up to five minutes. A success ends it.
//  5. It also ends when the epoch changes: the servers, the trust in them or their self-test's result have changed, or
//     an outage of all servers has ended, so that the failure says nothing about the name.
//  6. Five minutes after its last back-off it is forgotten.
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

// Options are for New.
type Options struct {
	// MaxEntries bounds the number of entries, 400,000 by default and never less than 64. It also bounds their size, to
	// MaxBytes(MaxEntries), so that huge answers of a remote party cannot fill the memory.
	MaxEntries int
	// MaxBytes bounds their size if it is less than that; 0: no further bound.
	MaxBytes int64
	// Epoch returns the present epoch of the next resolver, which is always the zero Epoch without it.
	Epoch func() dns.Epoch
	// Doubt, if not nil, is called when an insecure answer arrives although the last one to the question, live or just
	// expired, is secure: the resolver may no longer validate. It must not block.
	Doubt  func()
	Logger *slog.Logger
}

// Cache is a dns.Resolver in front of another. It keeps answers until their TTL ends. A live secure answer is never
// replaced by an insecure one or by a failure.
type Cache struct {
	next    dns.Resolver
	options Options // with the defaults
	seed    maphash.Seed
	shards  [shards]*shard
	ended   chan struct{} // of calls that need no work
	// deliveries and untrusted are for lookups without and with dns.Effort.Untrusted, and ahead is for refreshes.
	deliveries, untrusted, ahead *share
	stats                        counters
}

const shards = 64

type counters struct {
	hits, misses, failures, stale, kept, evicted, refreshed atomic.Uint64
	changes                                                 atomic.Uint64 // live answers that were removed or replaced
	bogus, failed                                           atomic.Uint64
	answers                                                 [dns.Secure + 1]atomic.Uint64 // by their status
}

// Stats are counters since the start, and the size.
type Stats struct {
	Entries    int    `json:"entries"`
	Bytes      int64  `json:"bytes"`     // about what the entries take in memory
	MaxBytes   int64  `json:"max_bytes"` // what they may take
	Hits       uint64 `json:"hits"`      // answers from the cache
	Misses     uint64 `json:"misses"`    // lookups that called the next resolver
	Failures   uint64 `json:"failures"`  // remembered failures
	Stale      uint64 `json:"stale"`     // expired secure answers that were served because the resolver failed
	Kept       uint64 `json:"kept"`      // answers that did not replace a live secure one
	Evicted    uint64 `json:"evicted"`
	Refreshed  uint64 `json:"refreshed"`
	MaxEntries int    `json:"max_entries"`
	// Answers counts the results of the next resolver: secure and insecure answers, failures that it reported as bogus,
	// and all others as failed.
	Answers map[string]uint64 `json:"answers"`
}

// New returns an empty cache of the answers of next, which must end each lookup by itself. Run removes expired answers.
func New(next dns.Resolver, o Options) *Cache {
	if o.Epoch == nil {
		o.Epoch = func() dns.Epoch { return dns.Epoch{} }
	}
	o.MaxBytes, o.Logger = cmp.Or(o.MaxBytes, math.MaxInt64), cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	c := &Cache{next: next, options: o, seed: maphash.MakeSeed(), ended: make(chan struct{})}
	c.deliveries, c.untrusted, c.ahead = newShare(c, maxCalls), newShare(c, maxUntrusted), newShare(c, maxRefreshes)
	close(c.ended)
	for i := range c.shards {
		c.shards[i] = newShard(&c.stats)
	}
	c.SetMaxEntries(o.MaxEntries)
	return c
}

// MaxBytes returns how many bytes that many entries may take: 1 KiB each, and at least 32 MiB.
func MaxBytes(entries int) int64 {
	const each, least = 1 << 10, 32 << 20
	return max(int64(entries)*each, least)
}

// SetMaxEntries changes the bound. Entries in excess are evicted as new ones are stored.
func (c *Cache) SetMaxEntries(n int) {
	n = cmp.Or(max(n, 0), 400_000)
	bytes := min(MaxBytes(n), c.options.MaxBytes)
	for i, s := range c.shards {
		s.mu.Lock()
		s.limit, s.bytesLimit = max((n+i)/shards, 1), bytes/shards // the limits add up to n
		s.mu.Unlock()
	}
}

// Run removes entries that are of no use any more, until ctx ends, and makes lookups cheaper.
func (c *Cache) Run(ctx context.Context) error {
	const sweepInterval = time.Second // one shard each
	c.deliveries.startWorkers(ctx)
	for i, tick := 0, time.Tick(sweepInterval); ; i++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
			now := time.Now()
			c.shards[i%shards].removeIf(c.options.Epoch, func(e *entry) bool { return e.dead(now) })
		}
	}
}

// Stats returns the present counters.
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

func (c *Cache) shard(q dns.Question) *shard {
	name, _ := locate(q)
	return c.shards[maphash.String(c.seed, name)%shards]
}

// Lookup returns a live answer or a remembered failure, or asks the next resolver unless e.CacheOnly is set. It
// starts no call after ctx has ended. Concurrent callers share one call, which continues when they give up. The error
// is a *dns.Error, or dns.ErrNotCached with e.CacheOnly.
func (c *Cache) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	const noLimit = math.MaxInt64 // other than that of ctx
	return dns.Ask(ctx, c, q, e, time.Now().Add(noLimit))
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
func (c *Cache) remembered(q dns.Question, by dns.Effort, late bool) (*dns.RRset, error) {
	e, n := c.shard(q).get(q, c.options.Epoch())
	now := time.Now()
	if known := e.alive(now) || e.waits(now) || late && e.usable(now); !known {
		return nil, dns.ErrNotCached
	}
	// An untrusted lookup does not count as use: a remote party could otherwise evict what this site needs.
	if !by.Untrusted && !n.used.Load() {
		n.used.Store(true)
	}
	switch {
	case e.alive(now):
		c.stats.hits.Add(1)
		c.refreshAhead(&e, by, now)
	case e.usable(now):
		c.stats.stale.Add(1)
	default:
		c.stats.failures.Add(1)
		failure := e.failure
		return nil, &failure
	}
	return e.answer(), nil
}
