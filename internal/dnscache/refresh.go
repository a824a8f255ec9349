package dnscache

import (
	"context"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	refreshWorkers = 16
	sweepInterval  = time.Second // one shard each
)

// refreshAhead looks an entry up again in the background shortly before it expires. It is called for hits only, so an
// entry that is not in use is never refreshed.
func (c *Cache) refreshAhead(e *entry, now time.Time) {
	backsOff := e.failure() != nil && now.Before(e.aside.retry)
	if backsOff || !refreshDue(time.Duration(e.life)*time.Second, e.rrset.Expires.Sub(now)) || e.marked(refreshing) || !e.mark(refreshing) {
		return
	}
	select {
	case c.refreshes <- e.question():
	default: // too many are due: this entry expires and is looked up when it is needed
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

// refresh looks up again what is in the cache.
func (c *Cache) refresh(ctx context.Context, q dns.Question) {
	select {
	case <-c.ask(ctx, q, dns.Effort{}):
		c.stats.refreshed.Add(1)
	case <-ctx.Done():
	}
}
