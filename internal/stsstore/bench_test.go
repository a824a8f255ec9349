package stsstore_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/policyd/policyd/internal/mtasts"
)

// BenchmarkStart measures the start with 100,000 policies on disk.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir, 100_000)
	w := newInternet()
	for b.Loop() {
		s := w.store(b, in(dir))
		require.Equal(b, mtasts.Found, s.Lookup(b.Context(), "d77777.example", anything).State)
		require.NoError(b, s.Close())
	}
}

func BenchmarkCached(b *testing.B) {
	w := newInternet()
	w.set(domain, "1", enforce)
	s := w.store(b, nil)
	s.Lookup(b.Context(), domain, anything)
	b.ReportAllocs()
	for b.Loop() {
		s.Lookup(b.Context(), domain, cacheOnly)
	}
}

// fill puts policies on disk.
func fill(b *testing.B, dir string, n int) {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "mtasts.db"), 0o600, nil)
	require.NoError(b, err)
	require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucket([]byte("policies-1"))
		require.NoError(b, err)
		value := fmt.Appendf(nil, `{"id":"1","fetched":%q,"lines":["version: STSv1","mode: enforce","mx: mx1.example.com","mx: *.example.net","max_age: 604800"]}`,
			time.Now().Format(time.RFC3339))
		for i := range n {
			require.NoError(b, bucket.Put(fmt.Appendf(nil, "d%d.example", i), value))
		}
		return nil
	}))
	require.NoError(b, db.Close())
}
