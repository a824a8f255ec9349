package stsstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
)

func TestADomainTakesOneSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.change(func() { w.wait = time.Second })
		s := stsstore.New(stsstore.Options{Resolver: w, Fetcher: w})
		defer func() { require.NoError(t, s.Close()) }()
		// Without a cache, each lookup sees another id.
		var all sync.WaitGroup
		for i := range 2 * stsstore.MaxFetches {
			w.set(domain, fmt.Sprint("x", i), enforce)
			all.Go(func() {
				if r := s.Lookup(t.Context(), domain, anything); r.State != mtasts.Found {
					t.Error(short(r), r.Err)
				}
			})
			synctest.Wait()
		}
		require.Equal(t, 1, w.fetches())
		all.Wait()
		require.Equal(t, mtasts.Found, s.Lookup(t.Context(), domain, anything).State)
		require.Equal(t, 2, w.fetches())
	})
}

// hang makes n lookups of domains whose policy hosts hang. It returns when all have ended.
func (w *internet) hang(ctx context.Context, s *stsstore.Store, all *sync.WaitGroup, n int) {
	w.change(func() { w.hangs = "hangs.example" })
	for i := range n {
		name := fmt.Sprintf("d%d.hangs.example", i)
		w.set(name, "1", enforce)
		all.Go(func() { s.Lookup(ctx, name, anything) })
		synctest.Wait() // each gets its slot before the next one
	}
}

// A domain whose policy can be fetched is answered within the budget of a lookup, also if its fetch has to wait for a
// place behind hosts that hang.
func TestAFetchWaitsForASlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		w.set("known.example", "1", enforce)
		w.set("rotated.example", "1", enforce)
		require.Equal(t, found1, short(s.Lookup(t.Context(), "known.example", anything)))
		require.Equal(t, found1, short(s.Lookup(t.Context(), "rotated.example", anything)))
		w.set("rotated.example", "2", "")
		time.Sleep(ttl)
		require.Equal(t, found1, short(s.Lookup(t.Context(), "known.example", anything)))

		var all sync.WaitGroup
		w.hang(t.Context(), s, &all, stsstore.MaxFetches)
		w.set(domain, "1", enforce)
		begun := time.Now()
		var waiting sync.WaitGroup
		for range 10 {
			waiting.Go(func() {
				if r := s.Lookup(t.Context(), domain, anything); short(r) != found1 {
					t.Error(short(r), r.Err)
				}
				if took := time.Since(begun); took > 3500*time.Millisecond {
					t.Error("answered after", took)
				}
			})
		}
		synctest.Wait()

		require.Equal(t, found1, short(s.Lookup(t.Context(), "known.example", anything)))
		require.Zero(t, time.Since(begun), "a policy that is confirmed does not wait for a place")
		require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), "rotated.example", anything)))
		require.LessOrEqual(t, time.Since(begun), time.Second, "nor does one that is live")
		waiting.Wait()
		all.Wait()
		require.Equal(t, "found 2 enforce [mx.example.com]", short(s.Lookup(t.Context(), "rotated.example", anything)))
	})
}

// Untrusted names cannot take the places: a flood of them fetches nothing, and a domain is answered beside it.
func TestUntrustedNamesTakeNoSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		w.change(func() { w.hangs = "hangs.example" })
		for i := range 10 * stsstore.MaxFetches {
			name := fmt.Sprintf("d%d.hangs.example", i)
			w.set(name, "1", enforce)
			require.Equal(t, "unknown", short(s.Lookup(t.Context(), name, untrusted)))
		}
		w.set(domain, "1", enforce)
		begun := time.Now()
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.Zero(t, time.Since(begun))
		require.Equal(t, 1, w.fetches())
	})
}

// A domain that gets no place in time is not treated as one without MTA-STS: mail waits.
func TestWithoutASlotNothingIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		var all sync.WaitGroup
		w.hang(t.Context(), s, &all, 8*stsstore.MaxFetches)
		w.set(domain, "1", enforce)
		r := s.Lookup(t.Context(), domain, anything)
		require.Equal(t, "unknown", short(r))
		require.ErrorIs(t, r.Err, stsstore.ErrBusy)
		all.Wait()
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "to be busy is not a failure")
	})
}
