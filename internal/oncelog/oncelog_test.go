package oncelog_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/oncelog"
)

func TestOneLinePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l oncelog.Limiter
		want := func(wantTimes int, wantDue bool) {
			t.Helper()
			times, due := l.Due()
			require.Equal(t, wantDue, due)
			require.Equal(t, wantTimes, times)
		}
		want(1, true)
		want(0, false)
		time.Sleep(time.Minute - time.Millisecond)
		want(0, false)
		time.Sleep(time.Millisecond)
		want(3, true)
		time.Sleep(time.Hour)
		want(1, true)
		want(0, false)
	})
}

func TestConcurrentEventsAreOneLine(t *testing.T) {
	var l oncelog.Limiter
	var lines atomic.Int64
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, due := l.Due(); due {
				lines.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, lines.Load())
}
