package dnscache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// facts is a Resolver with scripted answers, after a delay.
type facts struct {
	mu        sync.Mutex
	say       func(q dns.Question) (*dns.RRset, error)
	delay     time.Duration
	delayOf   func(q dns.Question) time.Duration // instead of delay, unless nil
	asked     []dns.Question
	active    int // lookups that run
	cancelled int
	epoch     dns.Epoch
}

func (f *facts) Lookup(ctx context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	f.mu.Lock()
	f.asked = append(f.asked, q)
	f.active++
	say, delay, epoch := f.say, f.delay, f.epoch
	if f.delayOf != nil {
		delay = f.delayOf(q)
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.active--
	}()
	if delay > 0 { // timers that have expired already crash the race detector in a synctest bubble
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			f.cancelled++
			return nil, &dns.Error{Question: q, Reason: "timed out", Err: ctx.Err()}
		}
	}

	r, err := say(q)
	if r != nil {
		r.Epoch = epoch.Answers
	}
	if failure, ok := errors.AsType[*dns.Error](err); ok {
		failure.Epoch = epoch
	}
	return r, err
}

func (f *facts) set(say func(q dns.Question) (*dns.RRset, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.say = say
}

func (f *facts) queries() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

func (f *facts) running() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active
}

func (f *facts) now() dns.Epoch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

func (f *facts) change(g dns.Epoch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch = g
}

// says answers with a status, data for the type or, with denied, none, and a TTL.
func says(status dns.Status, ttl time.Duration, denied bool) func(dns.Question) (*dns.RRset, error) {
	return func(q dns.Question) (*dns.RRset, error) {
		r := &dns.RRset{Name: q.Name, Type: q.Type, Owner: q.Name, Status: status, Expires: time.Now().Add(ttl)}
		switch {
		case denied:
			r.NXDomain = true
		case q.Type == dns.TypeMX:
			r.Records = []dns.MX{{Preference: 10, Host: "mx." + q.Name}}
		case q.Type == dns.TypeTLSA:
			r.Records = []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte{0xab, 0xcd}}}
		case q.Type == dns.TypeA:
			r.Records = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		}
		return r, nil
	}
}

func fails(q dns.Question) (*dns.RRset, error) {
	return nil, &dns.Error{Question: q, Reason: "SERVFAIL"}
}

// cached runs f in a synctest bubble with a running cache.
func cachedRun(t *testing.T, f func(t *testing.T, c *Cache, next *facts)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		c := New(next, Options{Epoch: next.now})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait() // tests change what Run has read
		defer func() {
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}()
		f(t, c, next)
		synctest.Wait()
	})
}

func mxOf(name string) dns.Question { return dns.Question{Name: name, Type: dns.TypeMX} }

// cached is gets without asking the next resolver.
func cached(c dns.Resolver, q dns.Question) string { return gets(c, q, dns.Effort{CacheOnly: true}) }

// gets looks a name up and returns the status of the answer, with "denied" for a denial, or the reason of the error.
func gets(c dns.Resolver, q dns.Question, efforts ...dns.Effort) string {
	var e dns.Effort
	if len(efforts) > 0 {
		e = efforts[0]
	}
	r, err := c.Lookup(context.Background(), q, e)
	var failed *dns.Error
	switch {
	case errors.As(err, &failed):
		return failed.Reason
	case err != nil:
		return err.Error()
	case r.Empty():
		return r.Status.String() + " denied"
	}
	return r.Status.String()
}

// The table of "A live secure entry is replaced by a secure answer only", each cell, by the refresh of a live entry.
func TestCacheReplaces(t *testing.T) {
	const ttl = 2 * time.Hour
	kinds := map[string]func(dns.Question) (*dns.RRset, error){
		"secure data": says(dns.Secure, ttl, false), "secure denial": says(dns.Secure, ttl, true),
		"insecure data": says(dns.Insecure, ttl, false), "insecure denial": says(dns.Insecure, ttl, true), "failure": fails,
	}
	words := map[string]string{
		"secure data": "secure", "secure denial": "secure denied", "insecure data": "insecure", "insecure denial": "insecure denied", "failure": "SERVFAIL",
	}
	kept := func(live, next string) bool {
		switch {
		case strings.HasPrefix(live, "secure"):
			return !strings.HasPrefix(next, "secure")
		case strings.HasPrefix(live, "insecure"):
			return next == "failure"
		}
		return false
	}
	for live, first := range kinds {
		for next, second := range kinds {
			t.Run("live "+live+", new "+next, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &facts{say: first}
					c := New(f, Options{})
					require.Equal(t, words[live], gets(c, mxOf("example.com")))
					require.Equal(t, words[live], gets(c, mxOf("example.com")))
					require.Equal(t, 1, f.queries())
					f.set(second)
					c.refresh(mxOf("example.com"))
					require.Equal(t, 2, f.queries())
					want := words[next]
					if kept(live, next) {
						want = words[live]
					}
					require.Equal(t, want, cached(c, mxOf("example.com")))
					if next == "failure" || live == "failure" {
						return
					}
					wantKept := uint64(0)
					if kept(live, next) {
						wantKept = 1
					}
					require.Equal(t, wantKept, c.Stats().Kept)
					// It is kept until it expires, and no longer.
					time.Sleep(ttl)
					require.Equal(t, words[next], gets(c, mxOf("example.com")))
					require.Equal(t, words[next], cached(c, mxOf("example.com")))
				})
			})
		}
	}
}

// "keep until expiry; log once, count"
func TestCacheKeptIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &facts{say: says(dns.Secure, time.Hour, false)}
		var text strings.Builder
		c := New(f, Options{Logger: slog.New(slog.NewTextHandler(&text, nil))})
		gets(c, mxOf("example.com"))
		for range 3 {
			f.set(says(dns.Insecure, time.Hour, false))
			c.refresh(mxOf("example.com"))
			f.set(fails)
			c.refresh(mxOf("example.com"))
		}
		require.Equal(t, "secure", gets(c, mxOf("example.com")))
		require.EqualValues(t, 3, c.Stats().Kept)
		require.Equal(t, 1, strings.Count(text.String(), "\n"), text.String())
		require.Contains(t, text.String(), "name=example.com type=MX")
	})
}

func TestCacheTTL(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Insecure, 5*time.Second, false))
		require.Equal(t, "insecure", gets(c, mxOf("Example.COM.")))
		time.Sleep(5*time.Second - 1)
		require.Equal(t, "insecure", gets(c, mxOf("example.com")))
		require.Equal(t, 1, next.queries(), "one name in all its spellings")
		time.Sleep(time.Nanosecond)
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("example.com")), "not longer than that")
		require.Equal(t, "insecure", gets(c, mxOf("example.com")))
		require.Equal(t, 2, next.queries())
		require.Equal(t, "insecure", gets(c, dns.Question{Name: "example.com", Type: dns.TypeA}))
		require.Equal(t, 3, next.queries(), "another type is another entry")
	})
}

// "TTL 0: serve the waiting callers, do not cache."
func TestCacheTTLZero(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Secure, 0, false))
		next.delay = time.Second
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got := gets(c, mxOf("example.com")); got != "secure" {
					t.Error(got)
				}
			})
		}
		all.Wait()
		require.Equal(t, 1, next.queries())
		require.Zero(t, c.Stats().Entries)
		require.Equal(t, "secure", gets(c, mxOf("example.com")))
		require.Equal(t, 2, next.queries())

		next.set(fails)
		gets(c, mxOf("example.com"))
		next.set(says(dns.Secure, 0, false))
		time.Sleep(2 * time.Second)
		require.Equal(t, "secure", gets(c, mxOf("example.com")))
		require.Zero(t, c.Stats().Entries, "the earlier failure is gone too")
	})
}

// "Failures: 1 s, doubling to 5 min per name (RFC 9520); a hit sends no query."
func TestCacheFailureBackOff(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(fails)
		want := time.Second
		for i := range 20 {
			require.Equal(t, "SERVFAIL", gets(c, mxOf("example.com")))
			require.Equal(t, i+1, next.queries())
			time.Sleep(want - 1)
			require.Equal(t, "SERVFAIL", gets(c, mxOf("example.com")))
			require.Equal(t, "SERVFAIL", cached(c, mxOf("example.com")))
			require.Equal(t, i+1, next.queries(), "a hit sends no query")
			time.Sleep(time.Nanosecond)
			require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("example.com")))
			want = min(2*want, 5*time.Minute)
		}
		require.Equal(t, "SERVFAIL", gets(c, dns.Question{Name: "example.com", Type: dns.TypeA}), "another entry")
		next.set(says(dns.Insecure, time.Second, false))
		time.Sleep(5 * time.Minute)
		require.Equal(t, "insecure", gets(c, mxOf("example.com")))
		next.set(fails)
		time.Sleep(time.Second)
		n := next.queries()
		require.Equal(t, "SERVFAIL", gets(c, mxOf("example.com")))
		time.Sleep(time.Second)
		require.Equal(t, "SERVFAIL", gets(c, mxOf("example.com")))
		require.Equal(t, n+2, next.queries(), "a success ends the doubling")
		st := c.Stats()
		require.EqualValues(t, 40, st.Failures)
	})
}

// An error that is not an *Error, an answer without a status and a panic are failures too.
func TestCacheOddResolver(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		const invalid = "the resolver returned no valid result"
		odd := errors.New("not a *dns.Error")
		next.set(func(q dns.Question) (*dns.RRset, error) {
			r, _ := says(dns.Secure, time.Hour, false)(q)
			return r, odd
		})
		_, err := c.Lookup(t.Context(), mxOf("a.example"), dns.Effort{})
		require.ErrorContains(t, err, invalid)
		require.ErrorIs(t, err, odd)
		next.set(func(dns.Question) (*dns.RRset, error) { return nil, nil })
		require.Equal(t, invalid, gets(c, mxOf("b.example")))
		for status, name := range map[dns.Status]string{dns.Indeterminate: "c.example", dns.Secure + 1: "e.example"} {
			next.set(says(status, time.Hour, false))
			require.Equal(t, invalid, gets(c, mxOf(name)))
		}
		next.set(func(dns.Question) (*dns.RRset, error) { panic("odd") })
		require.Equal(t, "internal error", gets(c, mxOf("d.example")))
		next.set(says(dns.Secure, time.Hour, false))
		require.Equal(t, "secure", gets(c, mxOf("d.example")))
		require.Equal(t, "secure denied", gets(c, dns.Question{Name: "d.example", Type: 99}))
		require.Equal(t, "secure denied", cached(c, dns.Question{Name: "d.example", Type: 99}))
	})
}

// "Serve stale only what keeps protection and only for a failing resolver: secure positive MX, secure positive TLSA; at
// most 1 h. Never stale denials (RFC 8767 10), never insecure data."
func TestCacheStale(t *testing.T) {
	tests := map[string]struct {
		say   func(dns.Question) (*dns.RRset, error)
		t     dns.Type
		stale bool
	}{
		"secure positive MX":   {says(dns.Secure, time.Minute, false), dns.TypeMX, true},
		"secure positive TLSA": {says(dns.Secure, time.Minute, false), dns.TypeTLSA, true},
		"secure address":       {says(dns.Secure, time.Minute, false), dns.TypeA, false},
		"secure denial":        {says(dns.Secure, time.Minute, true), dns.TypeMX, false},
		"secure TLSA denial":   {says(dns.Secure, time.Minute, true), dns.TypeTLSA, false},
		"insecure MX":          {says(dns.Insecure, time.Minute, false), dns.TypeMX, false},
		"insecure TLSA":        {says(dns.Insecure, time.Minute, false), dns.TypeTLSA, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
				q := dns.Question{Name: "example.com", Type: tc.t}
				next.set(tc.say)
				fresh := gets(c, q)
				expired := time.Now().Add(time.Minute)
				next.set(fails)
				time.Sleep(time.Minute)
				require.Equal(t, dns.ErrNotCached.Error(), cached(c, q), "not before the resolver has failed")
				for time.Since(expired) <= time.Hour {
					want := "SERVFAIL"
					if tc.stale {
						want = fresh
					}
					require.Equal(t, want, gets(c, q))
					require.Equal(t, want, cached(c, q))
					time.Sleep(5*time.Minute + time.Second)
				}
				require.Equal(t, "SERVFAIL", gets(c, q), "at most 1 h")
				next.set(says(dns.Insecure, time.Minute, false))
				time.Sleep(5 * time.Minute)
				require.Equal(t, "insecure", gets(c, q))
				next.set(fails)
				time.Sleep(time.Minute)
				require.Equal(t, "SERVFAIL", gets(c, q), "the earlier secure answer is gone")
			})
		})
	}
}

// A resolver that takes longer than the caller can wait counts as failing.
func TestCacheStaleAtTheDeadline(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(says(dns.Secure, time.Minute, false))
		gets(c, mxOf("example.com"))
		time.Sleep(time.Minute)
		next.set(fails)
		next.mu.Lock()
		next.delay = 12 * time.Second
		next.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := c.Lookup(ctx, mxOf("example.com"), dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, dns.Secure, r.Status)
		_, err = c.Lookup(ctx, mxOf("other.example"), dns.Effort{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "no answer in time")
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = c.Lookup(gone, mxOf("example.com"), dns.Effort{})
		require.ErrorIs(t, err, context.Canceled, "who does not wait gets nothing")
		time.Sleep(time.Minute)
	})
}

// "Concurrent misses for one key: one query … with Do, the first caller's cancellation fails all the others."
func TestCacheCoalesces(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.delay = 5 * time.Second
		first, cancel := context.WithCancel(t.Context())
		got := make(chan string, 100)
		go func() {
			_, err := c.Lookup(first, mxOf("example.com"), dns.Effort{})
			got <- fmt.Sprint(errors.Is(err, context.Canceled))
		}()
		synctest.Wait()
		for range 99 {
			go func() { got <- gets(c, mxOf("EXAMPLE.com")) }()
		}
		time.Sleep(time.Second)
		cancel()
		require.Equal(t, "true", <-got)
		for range 99 {
			require.Equal(t, "secure", <-got)
		}
		require.Equal(t, 1, next.queries())
		require.Zero(t, next.cancelled)

		// No caller waits any longer, but the answer is still stored.
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Lookup(gone, mxOf("gone.example"), dns.Effort{})
		require.Error(t, err)
		time.Sleep(5 * time.Second)
		require.Equal(t, "secure", cached(c, mxOf("gone.example")))
	})
}
