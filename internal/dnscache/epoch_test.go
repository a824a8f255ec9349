package dnscache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// "Drop every secure entry when servers, trust or the self-test's result change."
func TestEpochDropsEntries(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		gets(c, mxOf("secure.example"))
		next.set(says(dns.Secure, time.Hour, true))
		gets(c, mxOf("denied.example"))
		next.set(says(dns.Insecure, time.Hour, false))
		gets(c, mxOf("insecure.example"))
		next.set(fails)
		gets(c, mxOf("failed.example"))

		next.change(dns.Epoch{Answers: 1})
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("secure.example")))
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("denied.example")))
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("failed.example")), "other servers may not fail")
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("insecure.example")), "it may be secure now")
		require.Equal(t, "SERVFAIL", gets(c, mxOf("secure.example")), "nor is it given stale")
		require.Len(t, c.List(dns.Matching(""), 0), 1, "the failure")
		next.set(says(dns.Secure, time.Hour, false))
		require.Equal(t, "secure", gets(c, mxOf("insecure.example")))
		require.Zero(t, c.Stats().Kept)
		time.Sleep(70 * time.Second)
		require.Equal(t, 2, c.Stats().Entries, "the sweep takes the others")
	})
}

func TestEpochEndsTheProtection(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		gets(c, mxOf("example.com"))
		next.change(dns.Epoch{Answers: 1})
		next.set(says(dns.Insecure, time.Hour, false))
		require.Equal(t, "insecure", gets(c, mxOf("example.com")), "the secure answer was of another epoch")
		require.Zero(t, c.Stats().Kept)
	})
}

// An answer that was on its way when the epoch changed does not belong to the new one.
func TestEpochChangesDuringALookup(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.delay = 2 * time.Second
		first, second := make(chan string, 1), make(chan string, 1)
		go func() { first <- gets(c, mxOf("example.com")) }()
		time.Sleep(time.Second)
		next.change(dns.Epoch{Answers: 1})
		go func() { second <- gets(c, mxOf("example.com")) }()
		time.Sleep(500 * time.Millisecond)
		next.set(says(dns.Insecure, time.Hour, false))
		require.Equal(t, "insecure", <-first)
		require.Equal(t, "insecure", <-second)
		require.Equal(t, "insecure", cached(c, mxOf("example.com")))
		require.Equal(t, 2, next.queries())
	})
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(func(q dns.Question) (*dns.RRset, error) {
			g := next.now()
			next.change(dns.Epoch{Answers: g.Answers + 1})
			return says(dns.Secure, time.Hour, false)(q)
		})
		require.Equal(t, "the DNS servers keep changing", gets(c, mxOf("example.com")))
		require.Zero(t, c.Stats().Entries)
		require.EqualValues(t, 2, next.now().Answers)
	})
}

// A lookup that was in progress when an outage ended, and failed, says nothing: the question may be asked again
// immediately. The known answer stays.
func TestAFailureOfAnEndedOutageIsNotRemembered(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		gets(c, mxOf("known.example"))
		next.set(fails)
		next.delay = 2 * time.Second
		for i, q := range []dns.Question{mxOf("known.example"), mxOf("other.example")} {
			started := c.deliveries.start(q)
			time.Sleep(time.Second)
			next.change(dns.Epoch{Failures: uint32(i + 1)})
			<-started.Done
			require.Equal(t, i == 0, started.Err == nil)
			require.Equal(t, i == 0, len(c.List(dns.Matching(q.Name), 0)) == 1)
		}
		require.Empty(t, c.List(dns.Matching("known.example"), 0)[0].Failure)
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("other.example")))
		next.set(func(dns.Question) (*dns.RRset, error) {
			next.change(dns.Epoch{Failures: 3})
			return nil, errors.New("without an epoch of its own")
		})
		require.Equal(t, "the resolver returned no valid result", gets(c, mxOf("other.example")))
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("other.example")))
	})
}

// The servers change after an answer is stored and before it reaches a caller.
func TestEpochChangesOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		calls := 0
		c := New(next, Options{Epoch: func() dns.Epoch {
			// Before the lookup, before the query, when its answer is stored, and before the callers get it.
			if calls++; calls == 4 {
				next.change(dns.Epoch{Answers: 1})
			}
			return next.now()
		}})
		require.Equal(t, "secure", gets(c, mxOf("example.com")))
		require.Equal(t, 2, next.queries(), "the answer of the previous servers is not used")
		require.Equal(t, "secure", cached(c, mxOf("example.com")))
	})
}

// A memo that rests on cached answers compares versions: each epoch has versions of its own.
func TestTheVersionChangesWithTheEpoch(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		gets(c, mxOf("example.com"))
		seen := map[uint64]bool{c.Version(): true}
		for _, epoch := range []dns.Epoch{{Answers: 1}, {Answers: 1, Failures: 1}, {Answers: 2, Failures: 1}} {
			next.change(epoch)
			require.False(t, seen[c.Version()])
			seen[c.Version()] = true
		}
	})
}

// The version changes only when a live answer is removed or changed: a memo survives lookups of other domains, and a
// refresh that confirms its answers.
func TestTheVersionChangesWithAnswers(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		const ttl, most = time.Hour, 3 * time.Hour
		q := mxOf("example.com")
		learn := func(say func(dns.Question) (*dns.RRset, error)) (changed bool) {
			before := c.Version()
			next.set(say)
			c.refresh(q)
			return c.Version() != before
		}
		other := func(q dns.Question) (*dns.RRset, error) {
			r, err := says(dns.Secure, most, false)(q)
			r.Records = []dns.MX{{Preference: 10, Host: "other.example"}}
			return r, err
		}
		require.False(t, learn(says(dns.Insecure, ttl, false)), "nothing was known")
		require.False(t, learn(says(dns.Insecure, ttl, false)), "the same")
		require.False(t, learn(fails), "the answer stays")
		require.True(t, learn(says(dns.Insecure, ttl/2, false)), "for less time")
		require.True(t, learn(says(dns.Insecure, ttl, true)), "a denial")
		require.True(t, learn(says(dns.Secure, ttl, true)), "secure")
		require.True(t, learn(says(dns.Secure, ttl, false)), "data")
		require.False(t, learn(says(dns.Insecure, ttl, false)), "the secure answer stays")
		require.True(t, learn(other), "other data")
		require.True(t, learn(says(dns.Secure, 0, false)), "the answer is gone")

		require.False(t, learn(other))
		time.Sleep(most)
		require.False(t, learn(says(dns.Secure, ttl, false)), "the answer had expired")
		before := c.Version()
		require.Equal(t, 1, c.Flush(dns.Within("example.com")))
		require.NotEqual(t, before, c.Version())
	})
	var stats counters
	s := newShard(&stats)
	s.limit, s.bytesLimit = 1, 1<<20
	s.unsaid("a")
	require.Zero(t, stats.changes.Load())
	s.unsaid("b")
	require.EqualValues(t, 1, stats.changes.Load(), "a was evicted")
}

// The servers change and an answer of the new ones is stored, just before an answer of the previous ones would be.
func TestAnAnswerOfAnEarlierEpochReplacesNone(t *testing.T) {
	q := mxOf("example.com")
	secure, err := says(dns.Secure, time.Hour, false)(q)
	require.NoError(t, err)
	secure.Epoch = 1
	insecure, err := says(dns.Insecure, time.Hour, false)(q)
	require.NoError(t, err)
	var c *Cache
	var epoch dns.Epoch
	c = New(nil, Options{Epoch: func() dns.Epoch {
		before, s := epoch, c.shardOf(q)
		if epoch.Answers == 0 && s.mu.TryLock() { // otherwise no answer can be stored now
			s.mu.Unlock()
			epoch.Answers++
			c.store(q, secure, nil, 0)
		}
		return before
	}})
	c.store(q, insecure, nil, 0)
	cached(c, q) // by now the epoch has changed
	require.Equal(t, "secure", cached(c, q))
}
