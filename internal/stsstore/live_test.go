package stsstore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLive: what is live is found without a question, and nothing else.
func TestLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		require.Equal(t, "absent", short(s.Live(domain)), "never fetched")
		require.Zero(t, w.queries())
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		queries := w.queries()
		time.Sleep(24*time.Hour - time.Second)
		require.Equal(t, found1, short(s.Live("EXAMPLE.com.")))
		require.Equal(t, found1, short(s.View(cacheOnly).Live(domain)))
		require.Equal(t, found1, short(s.View(untrusted).Live(domain)))
		time.Sleep(time.Second)
		require.Equal(t, "absent", short(s.Live(domain)), "over")
		require.Equal(t, queries, w.queries())
	})
}
