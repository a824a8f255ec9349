package dnscache

import (
	"context"
	"time"
)

const sweepInterval = time.Second // one shard each

// refreshAhead looks an entry up again in the background shortly before it expires, once. It is called for hits only,
// so an entry that is not in use is never refreshed.
func (c *Cache) refreshAhead(e *entry, now instant) {
	due := refreshDue(time.Duration(e.Life)*time.Second, time.Duration(e.Expires-now)*tick)
	if !due || e.Failed && now < e.Retry {
		return
	}
	q := e.question
	if _, running := c.refreshing.LoadOrStore(q, nil); running {
		return
	}
	go func() {
		defer c.refreshing.Delete(q)
		if latest, _ := c.shard(q).get(q); latest != nil && *latest == *e { // else a refresh has just ended
			_, _ = c.call(context.Background(), c.ahead, q)
		}
	}()
}

// Run removes entries that are of no use any more, until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
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
