package daemon

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpareThreads(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "1")
	runtime.GOMAXPROCS(1)
	spareThreads()
	require.Equal(t, 1, runtime.GOMAXPROCS(0), "who has set it is left alone")
	t.Setenv("GOMAXPROCS", "")
	for range 2 {
		spareThreads()
		require.GreaterOrEqual(t, runtime.GOMAXPROCS(0), min(runtime.NumCPU(), before)+2)
		require.LessOrEqual(t, runtime.GOMAXPROCS(0), runtime.NumCPU()+2, "twice is once")
	}
}
