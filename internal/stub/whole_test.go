package stub

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
)

// The stub and the cache with a resolver that is started late, dies, comes back, stops validating and is replaced: no
// answer is weaker than the facts allow, and the best answers return soon after each fault.
func TestLifeOfAResolver(t *testing.T) {
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		defer func() {
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}()
		dead := func(yes bool) { w.set(func() { w.dead["127.0.0.1"] = yes }) }
		weak := func(yes bool) { w.set(func() { w.weak = yes }) }
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		within := func(budget time.Duration, name string) string {
			ctx, cancel := context.WithTimeout(t.Context(), budget)
			defer cancel()
			r, err := c.Lookup(ctx, mxOf(name), dns.Effort{})
			if err != nil {
				return "failed"
			}
			return r.Status.String()
		}
		const budget = 10 * time.Second

		dead(true)
		require.Equal(t, "failed", within(budget, "a.example"), "nothing is known yet")
		dead(false)
		pass(time.Minute)
		require.Equal(t, "secure", within(budget, "a.example"), "trusted within the minute, and the failure is forgotten")

		dead(true)
		require.Equal(t, "secure", within(time.Millisecond, "a.example"), "a live answer needs no resolver")
		require.Equal(t, "failed", within(budget, "b.example"))
		pass(6 * time.Minute)
		require.Equal(t, "secure", within(budget, "a.example"), "expired, and given for a failing resolver")
		require.Equal(t, "secure", within(time.Millisecond, "a.example"), "immediately, because it is not asked again")
		require.Equal(t, Validating, s.State().Result)
		pass(2 * time.Hour)
		require.Equal(t, "failed", within(budget, "a.example"), "but not indefinitely")

		dead(false)
		pass(5 * time.Minute)
		require.Equal(t, "secure", within(budget, "a.example"))
		pass(time.Second) // the server that answers again is tested

		weak(true)
		pass(time.Second)
		require.Equal(t, "secure", within(budget, "a.example"), "an insecure answer does not displace it")
		pass(10 * time.Minute)
		require.Equal(t, NotValidating, s.State().Result)
		require.Equal(t, "insecure", within(budget, "a.example"))
		weak(false)
		pass(time.Minute)
		require.Equal(t, "secure", within(budget, "a.example"), "the insecure answer is not used any longer")

		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.2"}, Trust: TrustNever}))
		require.Equal(t, "insecure", within(budget, "a.example"))
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.2"}}))
		require.Equal(t, "secure", within(budget, "a.example"), "as soon as it is tested")
	})
}

// A resolver that is restarted without validation while nothing is looked up: the first insecure answer that
// contradicts a live secure one makes the self-test run, which is long before its next turn.
func TestAResolverThatStopsValidatingIsNoticed(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch, Contradicted: s.RetestSoon})
		look := func() string { return status(c, mxOf("example.com"), dns.Effort{}) }
		require.Equal(t, "secure", look())
		w.set(func() { w.weak = true })
		time.Sleep(290 * time.Second) // its TTL is 300 seconds
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		for range 50 {
			look() // refreshes
		}
		require.Equal(t, NotValidating, s.waitFor(t, time.Second))
		require.Equal(t, "insecure", look(), "no earlier answer counts")
		w.set(func() { w.weak = false })
		require.Equal(t, Validating, s.waitFor(t, time.Minute))
		require.Equal(t, "secure", look())
		require.ErrorIs(t, <-done, context.DeadlineExceeded)
	})
}

// The owner of a zone can make its answers contradict each other. That causes a self-test every ten seconds at most.
func TestRetestSoonIsBounded(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 0)
		before := len(w.times)
		for range 600 {
			s.RetestSoon()
			time.Sleep(100 * time.Millisecond)
		}
		require.LessOrEqual(t, len(w.times)-before, 7)
		require.GreaterOrEqual(t, len(w.times)-before, 6)
	})
}

// Whether the resolver validates is tested when a decision depends on it, and not only every ten minutes.
func TestValidatesTestsTheResolverNow(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		validates := func() bool {
			yes, err := s.Validates(t.Context(), dns.Effort{})
			require.NoError(t, err)
			return yes
		}
		require.Equal(t, Validating, s.waitFor(t, 0))
		tests := len(w.times)
		require.True(t, validates())
		require.Len(t, w.times, tests, "the result is recent")
		time.Sleep(11 * time.Second)
		_, err := s.Validates(t.Context(), dns.Effort{CacheOnly: true})
		require.ErrorIs(t, err, dns.ErrNotCached)
		require.Len(t, w.times, tests)
		w.set(func() { w.weak = true })
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { require.False(t, validates()) })
		}
		all.Wait()
		require.Len(t, w.times, tests+1, "one test for all")
		require.Equal(t, NotValidating, s.State().Result)
		w.set(func() { w.weak = false })
		require.Equal(t, Validating, s.waitFor(t, time.Minute))
		require.True(t, validates())
		w.set(func() { w.dead["127.0.0.1"] = true })
		time.Sleep(11 * time.Second)
		require.True(t, validates(), "an attacker who withholds the answers of the test gains nothing")
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.1"}, Trust: TrustNever}))
		require.False(t, validates())
	})
}

// A lookup whose context has ended sends nothing.
func TestNoQueryWithoutTime(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 0)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Lookup(ctx, mxOf("example.com"), dns.Effort{})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, w.log)
	})
}
