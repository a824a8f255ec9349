package daemon

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/socketmap"
)

// limitMemory sets Go's memory limit to the limit of the control group less a tenth of it, and of a small one less a
// third or 24 MiB, whichever is less: the kernel counts the buffers of sockets too. It leaves a lower GOMEMLIMIT as it
// is, and returns how many bytes of it the DNS cache may take; 0 means that there is no limit. The load that untrusted
// senders cause must never make the kernel kill policyd.
func (d *Daemon) limitMemory(group func() (uint64, error)) int64 {
	limit := debug.SetMemoryLimit(-1)
	most, err := group()
	switch {
	case err == nil && usable(most) < uint64(limit):
		limit = int64(usable(most))
		debug.SetMemoryLimit(limit)
	case err == nil, errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup),
		errors.Is(err, memlimit.ErrCgroupsNotSupported):
	default:
		d.log.Info("the memory limit of the control group is not known", "err", err)
	}
	if limit == math.MaxInt64 {
		return 0
	}
	d.maxPolicies, d.maxConnections = policiesFor(limit), connectionsFor(limit)
	if l := d.loaded.Load(); d.limits(l).MaxConnections < l.Server.MaxConnections {
		d.log.Info("max_connections is bounded by the memory limit", "limit", mebibytes(limit), "connections",
			d.maxConnections, "without", l.Server.MaxConnections)
	}
	share := cacheShare(limit)
	if most := dnscache.MaxBytes(d.loaded.Load().Cache.MaxEntries); share < most {
		d.log.Info("the DNS cache is bounded by the memory limit", "limit", mebibytes(limit), "cache", mebibytes(share),
			"without", mebibytes(most))
	}
	return share
}

// usable returns how much of the limit of a control group Go may use.
func usable(most uint64) uint64 { return most - max(most/10, min(most/3, 24<<20)) }

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// policiesFor is how many MTA-STS policies may be kept under a memory limit: in an eighth of it, at the 2 KiB that one
// may have and still count as one.
func policiesFor(limit int64) int {
	const eighth, each = 8, 2 << 10
	return int(min(max(limit/eighth/each, 1), stsstore.DefaultMaxPolicies))
}

// connectionsFor is how many connections there may be under a memory limit: each can take 14 KiB while it holds half of
// a request back, and the collector needs as much again; so they take half of the limit at most, and the cache a
// quarter of a small one.
func connectionsFor(limit int64) int {
	const each = 64 << 10
	return int(max(limit/each, 16))
}

// limits are what clients may do under the settings and the memory limit.
func (d *Daemon) limits(l *settings.Loaded) socketmap.Limits {
	limits := l.Limits()
	if d.maxConnections > 0 {
		limits.MaxConnections = min(limits.MaxConnections, d.maxConnections)
	}
	return limits
}

// cacheShare is how much of a memory limit the DNS cache may take: half of what is beyond the needs of everything else,
// and of a small limit a quarter.
func cacheShare(limit int64) int64 {
	const others = 64 << 20
	return max((limit-others)/2, limit/4)
}
