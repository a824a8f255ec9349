package stsstore_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/stsstore"
)

func TestANodeThatCannotFetchUsesThePolicyOfAPeer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.set("testing.example", "1", strings.Replace(enforce, "enforce", "testing", 1))
		a := w.store(t, nil)
		for _, d := range []string{domain, "testing.example"} {
			a.Lookup(t.Context(), d, anything)
		}
		require.Equal(t, []string{domain}, a.Domains())
		_, ok := a.Export("testing.example")
		require.False(t, ok)
		shared, ok := a.Export(domain)
		require.True(t, ok)

		b := w.store(t, nil)
		require.NoError(t, b.Import(domain, shared))
		fetches := w.fetches()
		require.Equal(t, found1, short(b.Lookup(t.Context(), domain, anything)))
		require.Equal(t, fetches, w.fetches())
		require.ErrorIs(t, b.Import(domain, shared), stsstore.ErrNotNewer)
		require.Error(t, b.Import("other domain", shared))

		lie := shared
		lie.Data = []byte(strings.Replace(string(shared.Data), "enforce", "none", 1))
		require.ErrorIs(t, w.store(t, nil).Import(domain, lie), stsstore.ErrNotEnforced)

		time.Sleep(time.Hour)
		w.set(domain, "2", strings.Replace(enforce, "enforce", "none", 1))
		c := w.store(t, nil)
		c.Lookup(t.Context(), domain, anything)
		require.ErrorIs(t, c.Import(domain, shared), stsstore.ErrNotNewer, "an older policy never replaces a newer one")

		time.Sleep(24 * time.Hour)
		require.ErrorIs(t, w.store(t, nil).Import(domain, shared), stsstore.ErrNotEnforced, "a policy that has expired")
	})
}
