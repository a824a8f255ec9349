package stsstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/testkit"
)

const (
	domain  = "example.com"
	enforce = head + "mx: mx.example.com\n"
	found1  = "found 1 enforce [mx.example.com]"
)

func TestAPolicyIsFetchedOnceAndHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		r := s.Lookup(t.Context(), domain, cacheOnly)
		require.Equal(t, "unknown", short(r))
		require.ErrorIs(t, r.Err, dns.ErrNotCached)
		require.Zero(t, w.queries())

		begun := time.Now()
		r = s.Lookup(t.Context(), "EXAMPLE.com.", anything)
		require.Equal(t, found1, short(r))
		require.Equal(t, "example.com", r.Domain)
		require.Equal(t, begun, r.Fetched)
		require.Equal(t, begun.Add(24*time.Hour), r.Expires)
		require.WithinDuration(t, begun.Add(ttl), r.RecordExpires, time.Second)
		for range 10 {
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, cacheOnly)))
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		}
		require.Equal(t, 1, w.queries())
		require.Equal(t, 1, w.fetches())

		// The record is looked up again when its TTL has ended, and is the same.
		time.Sleep(ttl)
		require.ErrorIs(t, s.Lookup(t.Context(), domain, cacheOnly).Err, dns.ErrNotCached)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, 2, w.queries())
		require.Equal(t, 1, w.fetches())
		require.Equal(t, stsstore.Stats{Policies: 1, Fetches: map[string]uint64{"ok": 1, "failed": 0}, Results: map[string]uint64{"ok": 1}}, s.Stats())
	})
}

func TestADomainWithoutARecordCostsOneQuery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		for range 3 {
			require.Equal(t, "absent", short(s.Lookup(t.Context(), domain, anything)))
			require.Equal(t, "absent", short(s.Lookup(t.Context(), domain, cacheOnly)))
			require.Equal(t, "absent", short(s.Lookup(t.Context(), domain, untrusted)))
		}
		require.Equal(t, 1, w.queries())
		require.Zero(t, w.fetches())
		expires := s.Lookup(t.Context(), domain, cacheOnly).RecordExpires
		require.WithinDuration(t, time.Now().Add(ttl), expires, time.Second, "that of the denial")

		// "Senders MUST NOT attempt to fetch a policy from the parent zone."
		w.set(domain, "1", enforce)
		require.Equal(t, "absent", short(s.Lookup(t.Context(), "mail.example.com", anything)))
		require.Equal(t, "absent", short(s.Lookup(t.Context(), "..", anything)))
		require.Equal(t, "absent", short(s.Lookup(t.Context(), "", anything)))
	})
}

func TestRecordsThatAnnounceNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		w.change(func() { w.txt[domain] = "v=STSv1; id=;"; w.txt["other.example"] = "v=spf1 -all" })
		require.Equal(t, "absent", short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, "absent", short(s.Lookup(t.Context(), "other.example", anything)))
		require.Zero(t, w.fetches())
	})
}

func TestARotatedPolicyIsFetchedAtTheEndOfTheTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		w.set(domain, "2", head+"mx: mx2.example.com\n")
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "the record is cached")
		time.Sleep(ttl)
		require.Equal(t, "found 2 enforce [mx2.example.com]", short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, 2, w.fetches())

		// "none: In this mode, Sending MTAs should treat the Policy Domain as though it does not have any active policy."
		w.set(domain, "3", "version: STSv1\nmode: none\nmax_age: 86400\n")
		time.Sleep(ttl)
		// The record announces a policy that the store does not have, and these lookups must not fetch it.
		require.ErrorIs(t, s.Lookup(t.Context(), domain, untrusted).Err, dns.ErrNotCached)
		require.ErrorIs(t, s.Lookup(t.Context(), domain, cacheOnly).Err, dns.ErrNotCached)
		require.Equal(t, "found 3 none []", short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, "found 3 none []", short(s.Lookup(t.Context(), domain, cacheOnly)))
	})
}

func TestALivePolicyHoldsWhateverFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		happen func(*internet)
		during string
		after  string
	}{
		{
			"the record is gone",
			func(w *internet) { delete(w.txt, domain) },
			found1 + " stale", "absent",
		},
		{
			"the record is broken",
			func(w *internet) { w.txt[domain] = "v=STSv1; id=?" },
			found1 + " stale", "absent",
		},
		{
			"the record cannot be looked up",
			func(w *internet) { w.dnsFail = true },
			found1 + " stale", "failed",
		},
		{
			"the newer policy cannot be fetched",
			func(w *internet) {
				w.txt[domain] = "v=STSv1; id=2;"
				w.fail = &mtasts.Error{Failure: mtasts.WebPKIInvalid, Err: context.Canceled}
			},
			found1 + " stale sts-webpki-invalid", "failed sts-webpki-invalid",
		},
		{
			"the newer policy is malformed",
			func(w *internet) { w.txt[domain] = "v=STSv1; id=2;"; w.policy[domain] = "mode: none" },
			found1 + " stale sts-policy-invalid", "failed sts-policy-invalid",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newInternet()
				w.set(domain, "1", enforce)
				s := w.store(t, nil)
				first := s.Lookup(t.Context(), domain, anything)
				require.Equal(t, found1, short(first))
				w.change(func() { c.happen(w) })
				for range 23 {
					time.Sleep(time.Hour)
					r := s.Lookup(t.Context(), domain, anything)
					require.Equal(t, c.during, short(r))
					require.Error(t, r.Err)
					require.Equal(t, first.Expires, r.Expires)
				}
				time.Sleep(time.Hour)
				require.Equal(t, c.after, short(s.Lookup(t.Context(), domain, anything)))
			})
		})
	}
}

func TestWithoutALivePolicyAFailureIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		w.change(func() { w.dnsFail = true })
		r := s.Lookup(t.Context(), domain, anything)
		require.Equal(t, "failed", short(r))
		require.Error(t, r.Err)
		require.NotEmpty(t, r.Why)

		w.change(func() { w.dnsFail = false })
		w.set("down.example", "7", enforce)
		w.down(mtasts.FetchError)
		r = s.Lookup(t.Context(), "down.example", anything)
		require.Equal(t, "failed sts-policy-fetch-error", short(r))
		require.Equal(t, "7", r.ID)
		require.Equal(t, "mtasts: down.example: sts-policy-fetch-error: connection refused", r.Why)
	})
}

func TestAFailedFetchIsNotRepeatedForEveryMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.down(mtasts.FetchError)
		s := w.store(t, nil)
		var at []time.Duration
		begun := time.Now()
		for time.Since(begun) < day {
			n := w.fetches()
			require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, anything)))
			require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, cacheOnly)))
			require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, untrusted)))
			if w.fetches() > n {
				at = append(at, time.Since(begun))
			}
			time.Sleep(30 * time.Second)
		}
		// After 1, 5, 10, 20, 40, 80, 160 and 320 minutes, and then every 6 hours, less a tenth at most.
		require.Len(t, at, 11, at)
		require.InDelta(t, time.Minute, at[1]-at[0], float64(30*time.Second))
		require.InDelta(t, 10*time.Minute, at[3]-at[2], float64(2*time.Minute))
		require.LessOrEqual(t, at[10]-at[9], 6*time.Hour+time.Minute)

		// A domain that announces another policy does not have to wait for that.
		w.change(func() { w.fail = nil })
		w.set(domain, "2", "")
		time.Sleep(ttl)
		require.Equal(t, "found 2 enforce [mx.example.com]", short(s.Lookup(t.Context(), domain, anything)))
		require.Empty(t, get(s, domain).Reason)
	})
}

func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 10_000
		w := newInternet()
		w.down(mtasts.FetchError)
		s := w.store(t, nil)
		for i := range most + 100 {
			name := fmt.Sprintf("d%d.example", i)
			w.set(name, "1", enforce)
			require.Equal(t, mtasts.Failed, s.Lookup(t.Context(), name, anything).State)
		}
		known := 0
		for i := range most + 100 {
			if _, ok := s.Get(fmt.Sprintf("d%d.example", i)); ok {
				known++
			}
		}
		require.Equal(t, most, known)
		_, ok := s.Get(fmt.Sprintf("D%d.example", most+99))
		require.True(t, ok, "the last one is there, whatever had to go")
	})
}

func TestAnIDThatChangesAllTheTimeIsHeldBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		for i := range 60 * 24 {
			w.set(domain, fmt.Sprint("x", i), "")
			require.Equal(t, mtasts.Found, s.Lookup(t.Context(), domain, anything).State)
			time.Sleep(ttl)
		}
		require.Less(t, w.fetches(), 60)
		require.Greater(t, w.fetches(), 20)
	})
}

func TestALookupTimesOutAndTheFetchContinues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.change(func() { w.wait = 6 * time.Second })
		s := w.store(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := s.Lookup(ctx, domain, anything)
		require.Equal(t, "unknown", short(r))
		require.ErrorIs(t, r.Err, context.DeadlineExceeded)
		time.Sleep(6 * time.Second)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, cacheOnly)))
		require.Equal(t, 1, w.fetches())

		// A lookup with a live policy hardly waits for a fetch.
		w.set(domain, "2", "")
		time.Sleep(ttl)
		begun := time.Now()
		require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, time.Second, time.Since(begun))
		time.Sleep(6 * time.Second)
		require.Equal(t, "found 2 enforce [mx.example.com]", short(s.Lookup(t.Context(), domain, cacheOnly)))

		// Nor does it wait for a record that does not arrive.
		w.change(func() { w.dnsWait = time.Hour })
		time.Sleep(ttl)
		begun = time.Now()
		require.Equal(t, "found 2 enforce [mx.example.com] stale", short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, time.Second, time.Since(begun))
		require.Equal(t, "unknown", short(s.Lookup(ended(t), "other.example", anything)))
		time.Sleep(ttl) // until the resolver gives up
	})
}

func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestAFetchFromAHostThatHangsTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.change(func() { w.wait = time.Hour })
		s := w.store(t, nil)
		begun := time.Now()
		require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, anything)))
		require.Less(t, time.Since(begun), 10*time.Second, "within the budget of a lookup")
	})
}

func TestManyLookupsShareAFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.change(func() { w.wait = time.Second })
		s := w.store(t, nil)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if got := short(s.Lookup(t.Context(), domain, anything)); got != found1 {
					t.Error(got)
				}
			})
		}
		all.Wait()
		require.Equal(t, 1, w.fetches())
	})
}

func TestMaxAgeZeroServesTheMailAtHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", "version: STSv1\nmode: enforce\nmax_age: 0\nmx: mx.example.com\n")
		s := w.store(t, nil)
		for range 100 {
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		}
		require.Equal(t, 1, w.fetches())
		time.Sleep(5 * time.Second)
		require.ErrorIs(t, s.Lookup(t.Context(), domain, cacheOnly).Err, dns.ErrNotCached)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, 2, w.fetches())
		time.Sleep(5 * time.Second)
		w.down(mtasts.FetchError)
		require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, anything)))
	})
}

func TestUntrustedLookupsDoNotFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		run(t, s)
		r := s.Lookup(t.Context(), domain, untrusted)
		require.Equal(t, "unknown", short(r))
		require.ErrorIs(t, r.Err, dns.ErrNotCached)
		require.Equal(t, 1, w.queries())
		require.Zero(t, w.fetches())

		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		for range 23 {
			time.Sleep(time.Hour)
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, untrusted)))
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, dns.Effort{CacheOnly: true, Untrusted: true})))
		}
		require.Equal(t, 1, w.fetches(), "not renewed for their sake")
	})
}

func TestAPanicOfAFetchIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, j := newInternet(), &testkit.Log{}
		w.set(domain, "1", "panic")
		s := w.store(t, func(o *stsstore.Options) { o.Logger = j.Logger() })
		require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, anything)))
		require.Equal(t, 1, j.Count("panic while fetching"))
	})
}

func TestAClosedStoreHasNoPolicies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.change(func() { w.wait = time.Second })
		s := w.store(t, nil)
		result := make(chan mtasts.Result, 1)
		go func() { result <- s.Lookup(t.Context(), domain, anything) }()
		synctest.Wait()
		require.NoError(t, s.Close())
		require.Equal(t, "unknown", short(<-result), "a fetch that was cancelled is not a failed one")
		require.Equal(t, "unknown", short(s.Lookup(t.Context(), domain, anything)))
		require.NoError(t, s.Close())
	})
}

func TestFetchesAreCountedByResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.change(func() { w.wait = time.Second })
		s := w.store(t, nil)
		s.Lookup(t.Context(), domain, anything)
		w.set("bad.example", "1", "no policy")
		s.Lookup(t.Context(), "bad.example", anything)
		require.Equal(t, map[string]uint64{"ok": 1, "sts-policy-invalid": 1}, s.Stats().Results)
		require.Equal(t, map[string]uint64{"ok": 1, "failed": 1}, s.Stats().Fetches)
	})
}
