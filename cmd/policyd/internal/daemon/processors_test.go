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
	runtime.SetDefaultGOMAXPROCS()
	want := runtime.GOMAXPROCS(0)
	if want >= runtime.NumCPU() { // no control group limits them
		want += 2
	}
	for range 2 {
		spareThreads()
		require.Equal(t, want, runtime.GOMAXPROCS(0), "twice is once")
	}
}
