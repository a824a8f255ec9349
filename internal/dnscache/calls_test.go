package dnscache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// Lookups of both classes are bounded. A lookup beyond the bound fails, and its failure is not remembered.
func TestCallsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		effort dns.Effort
		pool   func(c *Cache) *callPool
	}{
		"deliveries": {dns.Effort{}, func(c *Cache) *callPool { return c.deliveries }},
		"untrusted":  {dns.Effort{Untrusted: true}, func(c *Cache) *callPool { return c.untrusted }},
	} {
		cachedRun(t, func(t *testing.T, cache *Cache, next *facts) {
			const running = 20
			c.pool(cache).limit = running
			next.delay = 10 * time.Second
			var all sync.WaitGroup
			for i := range running {
				all.Go(func() { gets(cache, mxOf(fmt.Sprint("d", i, ".example")), c.effort) })
			}
			synctest.Wait()
			require.Equal(t, running, next.queries(), name)
			require.Equal(t, "too many concurrent lookups", gets(cache, mxOf("one-more.example"), c.effort))
			all.Wait()
			require.Equal(t, "secure", gets(cache, mxOf("one-more.example"), c.effort), "it was not remembered")
		})
	}
}

// silent is a resolver that never answers names that begin with "silent", and answers all others in 20 ms.
const silence = 12 * time.Second

func silent(next *facts) {
	next.set(says(dns.Secure, time.Hour, false))
	next.delayOf = func(q dns.Question) time.Duration {
		if strings.HasPrefix(q.Name, "silent") {
			return silence
		}
		return 20 * time.Millisecond
	}
}

// Ten envelope senders per second, each with 31 hosts whose name servers are silent: lookups for deliveries take no
// longer than without them, and the work for the senders stays within its pool.
func TestUntrustedLookupsDoNotDelayDeliveries(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		silent(next)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		flood := func(sender int) {
			for host := range 31 {
				for _, rrtype := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
					all.Go(func() {
						limited, cancel := context.WithTimeout(ctx, 10*time.Second)
						defer cancel()
						q := dns.Question{Name: fmt.Sprintf("silent%d-%d.example", sender, host), Type: rrtype}
						_, _ = c.Lookup(limited, q, dns.Effort{Untrusted: true})
					})
				}
			}
		}
		for i := range 300 {
			flood(i)
			began := time.Now()
			require.Equal(t, "secure", gets(c, mxOf(fmt.Sprintf("sound%d.example", i))))
			require.Equal(t, 20*time.Millisecond, time.Since(began))
			require.LessOrEqual(t, next.running(), maxUntrusted+1)
			time.Sleep(80 * time.Millisecond)
		}
		cancel()
		all.Wait()
		time.Sleep(silence)
	})
}

// 100 concurrent deliveries, each with 16 unanswered questions, leave room for other lookups.
func TestManyDeliveriesToSilentDomainsLeaveRoom(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		silent(next)
		var all sync.WaitGroup
		for i := range 1600 {
			all.Go(func() {
				limited, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, _ = c.Lookup(limited, mxOf(fmt.Sprintf("silent%d.example", i)), dns.Effort{})
			})
		}
		synctest.Wait()
		began := time.Now()
		require.Equal(t, "secure", gets(c, mxOf("sound.example")))
		require.Equal(t, 20*time.Millisecond, time.Since(began))
		all.Wait()
		time.Sleep(silence)
	})
}

// No call starts after the context of its caller has ended.
func TestNoCallStartsAfterItsContext(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.Lookup(ended, mxOf("a.example"), dns.Effort{})
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, next.queries())
	})
}

// A caller that joined a call gets its answer even if the caller that started the call has given up.
func TestAJoinedCallSurvivesItsFirstCaller(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.delay = 5 * time.Second
		var all sync.WaitGroup
		all.Go(func() {
			limited, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Lookup(limited, mxOf("shared.example"), dns.Effort{})
			require.Error(t, err)
		})
		synctest.Wait()
		all.Go(func() { require.Equal(t, "secure", gets(c, mxOf("shared.example"))) })
		all.Wait()
		require.Equal(t, 1, next.queries())
	})
}

// A lookup that is started does not wait, and a later lookup shares its call. Its answer needs no cache entry.
func TestAStartedLookupIsShared(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.delay = 5 * time.Second
		next.set(says(dns.Secure, 0, false))
		began, q := time.Now(), mxOf("example.com")
		var started []*dns.Call
		for range 3 {
			started = append(started, c.Start(t.Context(), q, dns.Effort{}))
		}
		require.Zero(t, time.Since(began))
		time.Sleep(2 * time.Second)
		require.Equal(t, "secure", gets(c, q))
		require.Equal(t, 5*time.Second, time.Since(began))
		for _, call := range started {
			require.True(t, call.Ended())
			require.NoError(t, call.Err)
			require.Equal(t, dns.Secure, call.RRset.Status)
		}
		require.Equal(t, 1, next.queries())
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, q), "it has TTL 0")
	})
}

// A known answer needs no call, and none is started after the end of the context. A call continues after it.
func TestAStartedLookupCanBeGivenUp(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.delay = 5 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started := c.Start(ctx, mxOf("example.com"), dns.Effort{})
		<-ctx.Done()
		require.False(t, started.Ended())
		late := c.Start(ctx, mxOf("other.example"), dns.Effort{})
		require.True(t, late.Ended())
		require.ErrorIs(t, late.Err, context.DeadlineExceeded)
		<-started.Done
		require.True(t, started.Ended())
		require.NoError(t, started.Err)
		known := c.Start(ctx, mxOf("example.com"), dns.Effort{CacheOnly: true})
		require.True(t, known.Ended())
		require.NoError(t, known.Err)
		require.ErrorIs(t, c.Start(ctx, mxOf("unknown.example"), dns.Effort{CacheOnly: true}).Err, dns.ErrNotCached)
		require.Equal(t, 1, next.queries())
	})
}

// An answer that was asked for before a flush is for its callers only.
func TestAFlushCountsForCallsUnderWay(t *testing.T) {
	for name, flush := range map[string]func(string) bool{"the name": dns.Within("example.com"), "all": dns.Matching("")} {
		t.Run(name, func(t *testing.T) {
			cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
				next.delay = 2 * time.Second
				before := c.Start(t.Context(), mxOf("example.com"), dns.Effort{})
				synctest.Wait()
				failing := mxOf("failing.example.com")
				next.set(fails)
				failed := c.Start(t.Context(), failing, dns.Effort{Untrusted: true})
				time.Sleep(time.Second)
				next.set(says(dns.Insecure, time.Hour, false))
				require.Zero(t, c.Flush(flush))
				after := c.Start(t.Context(), mxOf("example.com"), dns.Effort{})
				<-before.Done
				<-failed.Done
				require.Equal(t, dns.Secure, before.RRset.Status)
				require.Error(t, failed.Err)
				require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("example.com")))
				require.Equal(t, "insecure", gets(c, failing), "no failure is remembered")
				<-after.Done
				require.Equal(t, dns.Insecure, after.RRset.Status)
				require.Equal(t, "insecure", cached(c, mxOf("example.com")))
				require.Equal(t, 4, next.queries())
			})
		})
	}
}
