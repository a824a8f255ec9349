package stsstore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
)

const (
	day = 24 * time.Hour
	// long is a policy of ten days.
	long = "version: STSv1\nmode: enforce\nmax_age: 864000\nmx: mx.example.com\n"
)

func TestAPolicyInUseIsRenewedDaily(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", long)
		s := w.store(t, nil)
		run(t, s)
		first := s.Lookup(t.Context(), domain, anything)
		for range 24 * 7 {
			time.Sleep(time.Hour)
			r := s.Lookup(t.Context(), domain, anything)
			require.Equal(t, found1, short(r))
			require.Less(t, time.Since(r.Fetched), 26*time.Hour)
		}
		require.Greater(t, s.Lookup(t.Context(), domain, anything).Expires, first.Expires)
		require.InDelta(t, 8, w.fetches(), 2)
	})
}

func TestAnUnusedPolicyIsNotRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", long)
		s := w.store(t, nil)
		run(t, s)
		s.Lookup(t.Context(), domain, anything)
		time.Sleep(9 * day)
		require.Equal(t, 1, w.fetches())
		require.Equal(t, 1, w.queries())
		// It is used again near the end, and renewed before it expires.
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		time.Sleep(time.Minute)
		require.Equal(t, 2, w.fetches())
		require.Greater(t, time.Until(s.Lookup(t.Context(), domain, anything).Expires), 9*day)
	})
}

func TestARenewalNeedsNoRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", long)
		s := w.store(t, nil)
		run(t, s)
		s.Lookup(t.Context(), domain, anything)
		// "Regardless of the state of the "_mta-sts" TXT record."
		w.change(func() { delete(w.txt, domain) })
		for range 24 * 20 {
			time.Sleep(time.Hour)
			require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), domain, anything)))
		}
	})
}

func TestAPolicyHoldsUntilItsEndWhenItCannotBeRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", long)
		s := w.store(t, nil)
		run(t, s)
		first := s.Lookup(t.Context(), domain, anything)
		w.down(mtasts.WebPKIInvalid)
		for time.Until(first.Expires) > time.Hour {
			time.Sleep(time.Hour)
			r := s.Lookup(t.Context(), domain, anything)
			require.Equal(t, found1, short(r))
			require.Equal(t, first.Expires, r.Expires)
		}
		require.Greater(t, w.fetches(), 9*4, "it is tried all the time")
		require.Less(t, w.fetches(), 150, "but not too often")
		// Right before the end, the host is back.
		n := w.fetches()
		w.change(func() { w.fail = nil })
		time.Sleep(59 * time.Minute)
		require.Equal(t, n+1, w.fetches())
		require.Greater(t, time.Until(s.Lookup(t.Context(), domain, anything).Expires), 9*day)

		w.down(mtasts.WebPKIInvalid)
		time.Sleep(11 * day)
		require.Equal(t, "failed sts-webpki-invalid", short(s.Lookup(t.Context(), domain, anything)))
	})
}

func TestManyRenewalsAreSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		run(t, s)
		names := make([]string, 200)
		for i := range names {
			names[i] = string(rune('a'+i/26)) + string(rune('a'+i%26)) + ".example"
			w.set(names[i], "1", long)
			s.Lookup(t.Context(), names[i], anything)
			s.Lookup(t.Context(), names[i], anything)
		}
		time.Sleep(19 * time.Hour)
		require.Equal(t, len(names), w.fetches())
		time.Sleep(150 * time.Minute)
		require.InDelta(t, len(names)*3/2, w.fetches(), float64(len(names))/4)
		time.Sleep(160 * time.Minute)
		require.Equal(t, 2*len(names), w.fetches())
	})
}
