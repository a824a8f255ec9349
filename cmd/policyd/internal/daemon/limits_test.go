package daemon

import (
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

func TestCacheShare(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int64]int64{16 << 20: 4 << 20, 64 << 20: 16 << 20, 128 << 20: 32 << 20, 256 << 20: 96 << 20, 2 << 30: 992 << 20} {
		require.Equal(t, want, cacheShare(limit), limit)
	}
}

// An operator can set another pace than that of policyd.
func TestSetCollectorPace(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "100")
	setCollectorPace()
	require.Equal(t, 100, debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	setCollectorPace()
	require.Equal(t, 70, debug.SetGCPercent(before))
}

// The daemon keeps to a limit of the process from any source, and logs it if it leaves less than the settings do.
func TestLimitMemory(t *testing.T) {
	const none = math.MaxInt64
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for _, c := range []struct {
		name        string
		env         int64 // as GOMEMLIMIT would have set it
		group       uint64
		err         error
		limit, want int64
		log         string
	}{
		{name: "none", env: none, err: memlimit.ErrNoLimit, limit: none, want: cacheShare(none)},
		{name: "no control group", env: none, err: memlimit.ErrNoCgroup, limit: none, want: cacheShare(none)},
		{name: "not known", env: none, err: errors.New("no such file"), limit: none, want: cacheShare(none)},
		{name: "a small control group", env: none, group: 100 << 20, limit: 76 << 20, want: 76 << 20 / 4, log: "bounded by the memory limit"},
		{name: "a large one", env: none, group: 10 << 30, limit: 9 << 30, want: (9<<30 - 64<<20) / 2},
		{name: "GOMEMLIMIT", env: 80 << 20, err: memlimit.ErrNoLimit, limit: 80 << 20, want: 20 << 20, log: "bounded by the memory limit"},
		{name: "GOMEMLIMIT is less", env: 70 << 20, group: 100 << 20, limit: 70 << 20, want: 70 << 20 / 4, log: "bounded by the memory limit"},
		{name: "GOMEMLIMIT is more", env: 80 << 30, group: 100 << 20, limit: 76 << 20, want: 76 << 20 / 4, log: "bounded by the memory limit"},
	} {
		debug.SetMemoryLimit(c.env)
		var said strings.Builder
		d := &Daemon{log: slog.New(slog.NewTextHandler(&said, nil))}
		d.loaded.Store(&settings.Loaded{Settings: settings.Default()})
		require.Equal(t, c.want, d.limitMemory(func() (uint64, error) { return c.group, c.err }), c.name)
		require.Equal(t, c.limit, debug.SetMemoryLimit(-1), c.name)
		require.Equal(t, c.log != "", said.Len() > 0, c.name)
		require.Contains(t, said.String(), c.log, c.name)
	}
}

// Clients that hold requests back take memory too.
func TestConnectionsUnderAMemoryLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for limit, want := range map[int64]int{math.MaxInt64: 4096, 1 << 30: 4096, 256 << 20: 4096, 64 << 20: 1024, 1 << 10: 16} {
		debug.SetMemoryLimit(limit)
		var said strings.Builder
		d := &Daemon{log: slog.New(slog.NewTextHandler(&said, nil))}
		loaded := &settings.Loaded{Settings: settings.Default()}
		d.loaded.Store(loaded)
		d.limitMemory(func() (uint64, error) { return 0, memlimit.ErrNoLimit })
		require.Equal(t, want, loaded.Limits(d.maxConnections).MaxConnections, limit)
		require.Equal(t, want < 4096, strings.Contains(said.String(), "max_connections is bounded by the memory limit"), limit)
		loaded.Server.MaxConnections = 10
		require.Equal(t, 10, loaded.Limits(d.maxConnections).MaxConnections)
	}
}
