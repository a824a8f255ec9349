package daemon

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"

	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/stsstore"
)

// setCollectorPace makes the garbage collector run when the heap has grown by 70 %, unless GOGC sets another pace. Go's
// default is to let it double, and most of this heap is a cache, which stays (decision 5).
func setCollectorPace() {
	const percent = 70
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// limitMemory sets Go's memory limit to the limit of the control group less a tenth of it, and of a small one less a
// third or 24 MiB, whichever is less: the kernel counts the buffers of sockets too. It leaves a lower GOMEMLIMIT as it
// is, and returns how many bytes of it the DNS cache may take. The load that untrusted senders cause must never make
// the kernel kill policyd.
func (d *Daemon) limitMemory(group func() (uint64, error)) int64 {
	limit := debug.SetMemoryLimit(-1)
	if most, err := group(); err == nil {
		limit = int64(min(uint64(limit), most-max(most/10, min(most/3, 24<<20))))
		debug.SetMemoryLimit(limit)
	}
	// One policy may have 2 KiB and still count as one: they get an eighth. A connection can take 14 KiB while it holds
	// half of a request back, and the collector needs as much again: they get half.
	const policies, policySize, connectionSize = 8, 2 << 10, 64 << 10
	d.maxPolicies = int(min(max(limit/policies/policySize, 1), stsstore.DefaultMaxPolicies))
	d.maxConnections = int(min(max(limit/connectionSize, 16), math.MaxInt32))
	l := d.loaded.Load()
	if d.maxConnections < l.Server.MaxConnections {
		d.log.Info("max_connections is bounded by the memory limit", "limit", mebibytes(limit), "connections",
			d.maxConnections, "without", l.Server.MaxConnections)
	}
	share := cacheShare(limit)
	if most := dnscache.MaxBytes(l.Cache.MaxEntries); share < most {
		d.log.Info("the DNS cache is bounded by the memory limit", "limit", mebibytes(limit), "cache", mebibytes(share),
			"without", mebibytes(most))
	}
	return share
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// cacheShare is how much of a memory limit the DNS cache may take: half of what is beyond the needs of everything else,
// and of a small limit a quarter.
func cacheShare(limit int64) int64 {
	const others = 64 << 20
	return max((limit-others)/2, limit/4)
}
