package dnscache

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// until asks for q every second until the resolver has been asked n times, and returns how long that took.
func until(t *testing.T, c *Cache, next *facts, q dns.Question, n int) time.Duration {
	t.Helper()
	began := time.Now()
	for next.queries() < n {
		require.Less(t, time.Since(began), 24*time.Hour)
		gets(c, q)
		time.Sleep(time.Second)
		synctest.Wait()
	}
	return time.Since(began)
}

// "Refresh ahead: on a hit in the last 10 % of a TTL of a minute or more, in the background."
func TestRefreshAhead(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		const ttl = 1000 * time.Second
		next.set(says(dns.Insecure, ttl, false))
		gets(c, mxOf("example.com"))
		time.Sleep(899 * time.Second)
		for range 100 {
			require.Equal(t, "insecure", gets(c, mxOf("example.com")))
		}
		synctest.Wait()
		require.Equal(t, 1, next.queries(), "not before the last tenth")
		took := until(t, c, next, mxOf("example.com"), 2)
		require.Less(t, took, 101*time.Second)
		require.EqualValues(t, 1, c.Stats().Refreshed)
		require.EqualValues(t, 1, c.Stats().Misses, "no caller has waited")
		time.Sleep(ttl - took)
		require.Equal(t, "insecure", cached(c, mxOf("example.com")), "the new answer has its own time")

		for i := 3; i < 10; i++ { // always in time while it is asked for
			until(t, c, next, mxOf("example.com"), i)
		}
		require.EqualValues(t, 1, c.Stats().Misses)
	})
}

// A TTL of exactly one minute is "of a minute or more", although some of it has passed when the answer is stored.
func TestRefreshAheadFromAMinute(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Secure, time.Minute-time.Millisecond, false))
		gets(c, mxOf("example.com"))
		time.Sleep(58 * time.Second)
		gets(c, mxOf("example.com"))
		synctest.Wait()
		require.Equal(t, 2, next.queries())
	})
}

// A hit never waits for a writer, such as a sweep of a large shard.
func TestRefreshDoesNotWait(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Secure, time.Hour, false))
		gets(c, mxOf("example.com"))
		time.Sleep(time.Hour - time.Minute)
		s := c.shardOf(mxOf("example.com"))
		s.mu.Lock()
		require.Equal(t, "secure", cached(c, mxOf("example.com"))) // the writer had not ended earlier
		s.mu.Unlock()
		gets(c, mxOf("example.com"))
		synctest.Wait()
		require.Equal(t, 2, next.queries())
	})
}

// An entry that is not in use is never refreshed.
func TestRefreshStopsWithoutHits(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Secure, 1000*time.Second, false))
		gets(c, mxOf("example.com"))
		gets(c, mxOf("other.example"))
		time.Sleep(980 * time.Second)
		for range 50 {
			gets(c, mxOf("example.com"))
		}
		synctest.Wait()
		require.Equal(t, 3, next.queries(), "the one that is asked for, once")
		time.Sleep(24 * time.Hour)
		require.Equal(t, 3, next.queries())
		require.Zero(t, c.Stats().Entries)
	})
}

// Untrusted lookups cause no refresh.
func TestUntrustedLookupsDoNotRefresh(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		untrusted := dns.Effort{Untrusted: true}
		next.set(says(dns.Secure, 1000*time.Second, false))
		gets(c, mxOf("example.com"), untrusted)
		time.Sleep(990 * time.Second)
		for range 100 {
			require.Equal(t, "secure", gets(c, mxOf("example.com"), untrusted))
			require.Equal(t, "secure", gets(c, mxOf("example.com"), dns.Effort{CacheOnly: true, Untrusted: true}))
		}
		synctest.Wait()
		require.Equal(t, 1, next.queries())
		for range 100 {
			gets(c, mxOf("example.com"))
		}
		synctest.Wait()
		require.Equal(t, 2, next.queries())
	})
}

// "of a TTL of a minute or more"
func TestRefreshNotForShortTTL(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Secure, 59*time.Second, false))
		gets(c, mxOf("example.com"))
		time.Sleep(58 * time.Second)
		for range 100 {
			gets(c, mxOf("example.com"))
		}
		synctest.Wait()
		require.Equal(t, 1, next.queries())
	})
}

// "one per key"
func TestRefreshOncePerKey(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		const names = 100
		for i := range names {
			gets(c, mxOf(fmt.Sprint("d", i, ".example")))
		}
		next.mu.Lock()
		next.delay = time.Second
		next.mu.Unlock()
		time.Sleep(time.Hour - 30*time.Second)
		for range 50 {
			for i := range names {
				gets(c, mxOf(fmt.Sprint("d", i, ".example")))
			}
		}
		synctest.Wait()
		require.Equal(t, 2*names, next.queries())
		time.Sleep(20 * time.Second)
		require.Equal(t, 2*names, next.queries())
	})
}

// A failing refresh changes nothing, and backs off.
func TestRefreshFails(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Secure, 1000*time.Second, false))
		gets(c, mxOf("example.com"))
		next.set(fails)
		time.Sleep(950 * time.Second)
		for range 49 {
			for range 20 {
				require.Equal(t, "secure", gets(c, mxOf("example.com")))
			}
			time.Sleep(time.Second)
		}
		require.Greater(t, next.queries(), 3)
		require.Less(t, next.queries(), 9, "1 s, 2 s, 4 s …")
		require.Equal(t, "secure", gets(c, mxOf("example.com")))
	})
}

// However many refreshes are due, a hit never waits for one, and few run at the same time.
func TestRefreshIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		c := New(next, Options{})
		const names = 2 * maxRefreshes
		for i := range names {
			gets(c, mxOf(fmt.Sprint("d", i, ".example")))
		}
		next.mu.Lock()
		next.delay = time.Second
		next.mu.Unlock()
		time.Sleep(time.Hour - time.Minute)
		began := time.Now()
		for i := range names {
			require.Equal(t, "secure", gets(c, mxOf(fmt.Sprint("d", i, ".example"))))
		}
		require.Zero(t, time.Since(began))
		synctest.Wait()
		require.Equal(t, maxRefreshes, next.running())
		time.Sleep(time.Hour)
		require.Equal(t, names+maxRefreshes, next.queries())
	})
}

// A hit can find that an entry is due just before another refresh of it ends.
func TestRefreshAfterAnother(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		gets(c, mxOf("example.com"))
		for range 3 {
			<-c.refreshes.start(mxOf("example.com")).Done
		}
		require.Equal(t, 1, next.queries())
		require.Zero(t, c.Stats().Refreshed)
		time.Sleep(time.Hour - time.Second)
		for range 3 {
			<-c.refreshes.start(mxOf("example.com")).Done
		}
		require.Equal(t, 2, next.queries())
		require.EqualValues(t, 1, c.Stats().Refreshed)
	})
}

// An entry for whose refresh there is no room is refreshed by a later hit.
func TestRefreshAfterThePoolWasFull(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		c.refreshes.limit = 1
		gets(c, mxOf("first.example"))
		gets(c, mxOf("second.example"))
		next.mu.Lock()
		next.delay = time.Second
		next.mu.Unlock()
		time.Sleep(time.Hour - time.Minute)
		for range 2 {
			require.Equal(t, "secure", cached(c, mxOf("first.example")))
			synctest.Wait()
			require.Equal(t, "secure", cached(c, mxOf("second.example")))
			time.Sleep(2 * time.Second)
		}
		require.Equal(t, 4, next.queries())
		require.EqualValues(t, 2, c.Stats().Refreshed)
	})
}
