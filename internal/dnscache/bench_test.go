package dnscache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// full returns a cache of n entries, all of them live.
func full(b testing.TB, n int) (*Cache, []dns.Question) {
	b.Helper()
	c := New(&facts{say: says(dns.Secure, time.Hour, false)}, Options{MaxEntries: n})
	questions := make([]dns.Question, 0, n)
	for i := 0; len(questions) < n; i++ {
		q := mxOf(fmt.Sprint("d", i, ".example"))
		r, err := says(dns.Secure, time.Hour, false)(q)
		require.NoError(b, err)
		require.Same(b, r, c.store(q, r, nil, 0))
		questions = append(questions, q)
	}
	return c, questions
}

func BenchmarkHit(b *testing.B) {
	c, questions := full(b, 100_000)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			_, _ = c.Lookup(ctx, questions[i%1000], dns.Effort{CacheOnly: true})
		}
	})
}

// BenchmarkMissAndEvict stores an entry in a full cache of a million.
func BenchmarkMissAndEvict(b *testing.B) {
	c, _ := full(b, 1_000_000)
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, _ = c.Lookup(ctx, mxOf(fmt.Sprint("new", i, ".example")), dns.Effort{})
	}
	b.ReportMetric(float64(c.Stats().Bytes)/float64(c.Stats().Entries), "B/entry")
}

// BenchmarkSweep sweeps a shard of a million entries, none of which has expired, and reports the longest time that a hit
// in that shard takes during the sweep.
func BenchmarkSweep(b *testing.B) {
	c, questions := full(b, 1_000_000)
	s := c.shardOf(questions[0])
	stop, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		var longest time.Duration
		for {
			select {
			case <-stop:
				worst <- longest
				return
			default:
				began := time.Now()
				_, _ = s.get(questions[0], dns.Epoch{})
				longest = max(longest, time.Since(began))
			}
		}
	}()
	for b.Loop() {
		s.sweep(time.Now(), dns.Epoch{})
	}
	close(stop)
	b.ReportMetric(float64((<-worst).Microseconds()), "worst-hit-µs")
}

// BenchmarkSweepExpired sweeps a shard of which everything has expired.
func BenchmarkSweepExpired(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c, _ := full(b, 100_000)
		b.StartTimer()
		for _, s := range c.shards {
			s.sweep(time.Now().Add(48*time.Hour), dns.Epoch{})
		}
	}
}
