package resolver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// "Drop every secure entry when servers, trust or the self-test's result change."
func TestGenerationDropsSecureEntries(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		gets(c, mxOf("secure.example"))
		next.set(says(Secure, time.Hour, true))
		gets(c, mxOf("denied.example"))
		next.set(says(Insecure, time.Hour, false))
		gets(c, mxOf("insecure.example"))
		next.set(fails)
		gets(c, mxOf("failed.example"))

		next.change(Generation{Secure: 1})
		require.Equal(t, ErrNotCached.Error(), gets(c.Cached(), mxOf("secure.example")))
		require.Equal(t, ErrNotCached.Error(), gets(c.Cached(), mxOf("denied.example")))
		require.Equal(t, ErrNotCached.Error(), gets(c.Cached(), mxOf("failed.example")), "other servers may not fail")
		require.Equal(t, "insecure", gets(c.Cached(), mxOf("insecure.example")))
		require.Equal(t, "SERVFAIL", gets(c, mxOf("secure.example")), "nor is it given stale")
		require.Len(t, c.List("", 0), 2)

		next.change(Generation{Secure: 1, Any: 1})
		require.Equal(t, ErrNotCached.Error(), gets(c.Cached(), mxOf("insecure.example")), "it may be secure now")
		next.set(says(Secure, time.Hour, false))
		require.Equal(t, "secure", gets(c, mxOf("insecure.example")))
		require.Zero(t, c.Stats().Kept)
		time.Sleep(70 * time.Second)
		require.Equal(t, 1, c.Stats().Entries, "the sweep takes them")
	})
}

func TestGenerationEndsTheProtection(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		gets(c, mxOf("example.com"))
		next.change(Generation{Secure: 1})
		next.set(says(Insecure, time.Hour, false))
		require.Equal(t, "insecure", gets(c, mxOf("example.com")), "the secure answer was of another world")
		require.Zero(t, c.Stats().Kept)
	})
}

// An answer that was on its way when the world changed is not of the new one.
func TestGenerationChangesInFlight(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.delay = 2 * time.Second
		first, second := make(chan string, 1), make(chan string, 1)
		go func() { first <- gets(c, mxOf("example.com")) }()
		time.Sleep(time.Second)
		next.change(Generation{Secure: 1})
		go func() { second <- gets(c, mxOf("example.com")) }()
		time.Sleep(500 * time.Millisecond)
		next.set(says(Insecure, time.Hour, false))
		require.Equal(t, "insecure", <-first)
		require.Equal(t, "insecure", <-second)
		require.Equal(t, "insecure", gets(c.Cached(), mxOf("example.com")))
		require.Equal(t, 2, next.queries())
	})
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(func(q Question) (*RRset, error) {
			g := next.now()
			next.change(Generation{Secure: g.Secure + 1})
			return says(Secure, time.Hour, false)(q)
		})
		require.Equal(t, "the DNS servers keep changing", gets(c, mxOf("example.com")))
		require.Zero(t, c.Stats().Entries)
		require.EqualValues(t, 2, next.now().Secure)
	})
}

// The change between the storing of an answer and its arrival at a caller.
func TestGenerationChangesAtLanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(Secure, time.Hour, false)}
		calls := 0
		c := NewCache(next, CacheOptions{Generation: func() Generation {
			// Before the lookup, after it, and then by the caller: the third call is in a new world.
			if calls++; calls <= 2 {
				return Generation{}
			}
			return Generation{Secure: 1}
		}})
		require.Equal(t, "secure", gets(c, mxOf("example.com")))
		require.Equal(t, 2, next.queries(), "the answer of the old world is not given")
		require.Equal(t, "secure", gets(c.Cached(), mxOf("example.com")))
	})
}
