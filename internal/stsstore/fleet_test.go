package stsstore_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
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
		shared, _, _ := a.Share("testing.example")
		require.Nil(t, shared)
		shared, at, holds := a.Share(domain)
		require.NotNil(t, shared)
		require.Equal(t, 24*time.Hour, holds)

		b := w.store(t, nil)
		merged, err := b.Merge(domain, shared, at)
		require.NoError(t, err)
		require.True(t, merged)
		fetches := w.fetches()
		require.Equal(t, found1, short(b.Lookup(t.Context(), domain, anything)))
		require.Equal(t, fetches, w.fetches())
		merged, err = b.Merge(domain, shared, at)
		require.NoError(t, err)
		require.False(t, merged, "a policy of the same time is not newer")
		_, err = b.Merge("other domain", shared, at)
		require.Error(t, err)

		const notEnforced = "not a live policy in mode enforce"
		lie := []byte(strings.Replace(string(shared), "enforce", "none", 1))
		_, err = w.store(t, nil).Merge(domain, lie, at)
		require.ErrorContains(t, err, notEnforced)

		time.Sleep(time.Hour)
		w.set(domain, "2", strings.Replace(enforce, "enforce", "none", 1))
		c := w.store(t, nil)
		c.Lookup(t.Context(), domain, anything)
		merged, err = c.Merge(domain, shared, at)
		require.NoError(t, err)
		require.False(t, merged, "an older policy never replaces a newer one")

		time.Sleep(24 * time.Hour)
		_, err = w.store(t, nil).Merge(domain, shared, at)
		require.ErrorContains(t, err, notEnforced, "a policy that has expired")
	})
}
