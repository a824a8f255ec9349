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
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(70)
	}
}

// limitMemory sets Go's memory limit to the limit of the control group less a reserve for memory that only the kernel
// counts, such as socket buffers. The reserve is a tenth, or for a small limit a third but at most 24 MiB. It keeps a
// lower GOMEMLIMIT, and returns how many bytes of the limit the DNS cache may take. The load that untrusted senders
// cause must never make the kernel kill policyd.
func (d *Daemon) limitMemory(group func() (uint64, error)) int64 {
	limit := debug.SetMemoryLimit(-1)
	if most, err := group(); err == nil {
		reserve := max(most/10, min(24<<20, most/3))
		limit = int64(min(uint64(limit), most-reserve))
		debug.SetMemoryLimit(limit)
	}
	// A policy can take 2 KiB, and all policies may take an eighth of the limit. A connection can take 14 KiB while the
	// client holds back half of a request, the collector needs as much again, and all connections may take half.
	const memoryPerPolicy, memoryPerConnection = 8 * (2 << 10), 64 << 10
	d.maxPolicies = int(min(max(limit/memoryPerPolicy, 1), stsstore.DefaultMaxPolicies))
	d.maxConnections = int(min(max(limit/memoryPerConnection, 16), math.MaxInt32))
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

// cacheShare is how much of a memory limit the DNS cache may take: half of what is left after the 64 MiB that
// everything else needs, but at least a quarter of the limit.
func cacheShare(limit int64) int64 { return max((limit-64<<20)/2, limit/4) }
