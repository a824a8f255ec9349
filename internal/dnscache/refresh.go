package dnscache

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const sweepInterval = time.Second // one shard each

// refreshAhead looks an entry up again in the background shortly before it expires, once. It is called for hits only,
// so an entry that is not in use is never refreshed.
func (c *Cache) refreshAhead(e *entry, now instant) {
	due := refreshDue(time.Duration(e.Life)*time.Second, time.Duration(e.Expires-now)*tick)
	if !due || e.Failed && now < e.Retry {
		return
	}
	c.ahead.start(e.question, func() (*dns.RRset, error) {
		if latest, _ := c.shard(e.question).get(e.question); latest == nil || *latest != *e {
			return nil, dns.ErrNotCached // a refresh has just ended
		}
		defer c.stats.refreshed.Add(1)
		return c.call(e.question)
	})
}

// Run removes entries that are of no use any more, until ctx ends, and makes lookups cheaper.
func (c *Cache) Run(ctx context.Context) error {
	c.deliveries.run(ctx)
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			now, g := c.now(), c.epoch()
			c.shards[i%shards].removeIf(func(e *entry) bool { return e.dead(now, g) })
		}
	}
}
