package dnscache

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	refreshWorkers = 16
	refreshMinTTL  = time.Minute
	sweepInterval  = time.Second // one shard each
)

// refreshAhead has an entry looked up again in the background in the last tenth of its life, earlier or later
// by chance. It is called for hits only, so an entry that nobody asks for is never refreshed.
func (c *Cache) refreshAhead(e *entry, now time.Time) {
	left := e.rrset.Expires.Sub(now)
	// A TTL of a minute has lost some of it on the way into the cache.
	if e.life.Round(time.Second) < refreshMinTTL || left > e.life/10 || e.failure() != nil && now.Before(e.aside.retry) {
		return
	}
	if left > e.life/20 && rand.IntN(4) > 0 || e.marked(refreshing) || !e.mark(refreshing) {
		return
	}
	select {
	case c.refreshes <- e.question():
	default: // there is more to do than is good: the entry expires, and is asked for when it is needed
		e.unmark(refreshing)
	}
}

// Run refreshes entries ahead and sweeps, until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range refreshWorkers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case q := <-c.refreshes:
					c.refresh(ctx, q)
				}
			}
		})
	}
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			all.Wait()
			return ctx.Err()
		case now := <-tick.C:
			c.shards[i%shards].sweep(now, c.epoch())
		}
	}
}

// refresh asks again for what is in the cache.
func (c *Cache) refresh(ctx context.Context, q dns.Question) {
	select {
	case <-c.flight(ctx, q):
		c.stats.refreshed.Add(1)
	case <-ctx.Done():
	}
}
