package dnscache

import (
	"context"
	"time"
)

const sweepInterval = time.Second // one shard each

// refreshAhead looks an entry up again in the background shortly before it expires, once. It is called for hits only,
// so an entry that is not in use is never refreshed.
func (c *Cache) refreshAhead(e *entry, now instant) {
	backsOff := e.Failed && now < e.Retry
	if backsOff || e.Refreshing || !refreshDue(time.Duration(e.Life)*time.Second, time.Duration(e.Expires-now)*tick) {
		return
	}
	s, q := c.shard(e.question), e.question
	if !s.mu.TryLock() {
		return // a hit does not wait for a writer: the next one refreshes
	}
	defer s.mu.Unlock()
	if e, _ = s.get(q); e == nil || e.Refreshing {
		return // another hit was first
	}
	e.Refreshing = true
	s.put(s.with(q, e))
	c.ask(context.Background(), c.ahead, q) // the channel has room for the result
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
