package daemon

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGrowth(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{
		0:         100,
		1 << 20:   100,
		32 << 20:  100,
		64 << 20:  50,
		100 << 20: 32,
		160 << 20: 20,
		1 << 40:   20,
	} {
		require.Equal(t, want, growth(live), live)
	}
}

// Who has set GOGC is left alone; who has not gets what fits the heap.
func TestPaceCollector(t *testing.T) {
	gogc := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runFor := func(t *testing.T, d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			require.ErrorIs(t, (&Daemon{}).paceCollector(ctx), context.DeadlineExceeded)
		})
	}
	kept := make([]byte, 256<<20)
	t.Setenv("GOGC", "100")
	before := gogc()
	runFor(t, time.Minute)
	require.Equal(t, before, gogc())
	t.Setenv("GOGC", "")
	before = uint64(debug.SetGCPercent(mostGrow))
	defer debug.SetGCPercent(int(before))
	runtime.GC() // so that it is known what lives
	runFor(t, time.Minute)
	require.EqualValues(t, leastGrow, gogc())
	runtime.KeepAlive(kept)
}
