package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector may let the heap grow by a fifth before it collects, but by spare in any case: with an
// almost empty cache that is cheap, and with a full one the cache is what the memory is for. See
// docs/decisions/0005-memory.md.
const (
	spare      = 32 << 20
	leastGrow  = 20 // percent
	mostGrow   = 100
	lookAtHeap = time.Second
)

// growth is how many percent a heap of that many live bytes may grow.
func growth(live uint64) int {
	return int(min(max(spare*100/max(live, 1), leastGrow), mostGrow))
}

// paceCollector sets GOGC to what fits the heap, until ctx ends. Whoever has set it himself knows better. A limit by
// GOMEMLIMIT holds with either.
func (d *Daemon) paceCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTicker(lookAtHeap)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	before := mostGrow
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		metrics.Read(live)
		// Not for every little: it stops all for some microseconds.
		if now := growth(live[0].Value.Uint64()); now < before || now > before+before/4 {
			debug.SetGCPercent(now)
			before = now
		}
	}
}
