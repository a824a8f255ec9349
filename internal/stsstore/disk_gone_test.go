package stsstore_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/testkit"
)

// A file without a name is lost with the process that writes to it.
func TestADatabaseThatIsRemovedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		runs bool
		do   func(t *testing.T, dir string)
	}{
		{"the directory", true, func(t *testing.T, dir string) { t.Helper(); require.NoError(t, os.RemoveAll(dir)) }},
		{"the directory, just before the end", false, func(t *testing.T, dir string) { t.Helper(); require.NoError(t, os.RemoveAll(dir)) }},
		{"the directory is removed and created again", true, func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.Mkdir(dir, 0o700))
		}},
		{"the file", true, func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "mtasts.db")))
		}},
		{"the file is replaced by another one", true, func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "mtasts.db")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "mtasts.db"), nil, 0o600))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			synctest.Test(t, func(t *testing.T) {
				w, j := newInternet(), &testkit.Log{}
				w.set(domain, "1", enforce)
				w.set("other.example", "1", enforce)
				s := w.store(t, func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() })
				if c.runs {
					run(t, s)
				}
				require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
				c.do(t, dir)
				require.Equal(t, found1, short(s.Lookup(t.Context(), "other.example", anything)))
				if c.runs {
					time.Sleep(15 * time.Second)
					require.Equal(t, 1, j.Count("was removed or replaced"))
				}
				require.True(t, s.Stats().Persistent)
				require.NoError(t, s.Close())

				w.down(mtasts.FetchError)
				w.change(func() { clear(w.txt) })
				s = w.store(t, in(dir))
				require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), domain, anything)))
				require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), "other.example", anything)))
			})
		})
	}
}

// A database that cannot be created again after it was removed is created as soon as that is possible.
func TestAMissingDatabaseIsCreatedLater(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w, j := newInternet(), &testkit.Log{}
		w.set(domain, "1", enforce)
		s := w.store(t, func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() })
		run(t, s)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.WriteFile(dir, nil, 0o600))
		time.Sleep(time.Minute)
		require.False(t, s.Stats().Persistent)
		require.Equal(t, 1, j.Count("state database cannot be written"))
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "it still holds in memory")

		require.NoError(t, os.Remove(dir))
		time.Sleep(5 * time.Second) // "recovery within seconds of the fault's end"
		require.True(t, s.Stats().Persistent)
		require.Equal(t, 1, j.Count("state database can be written again"))
		require.NoError(t, s.Close())
		w.down(mtasts.FetchError)
		w.change(func() { clear(w.txt) })
		require.Equal(t, found1+" stale", short(w.store(t, in(dir)).Lookup(t.Context(), domain, anything)))
	})
}

// The policies of a read-only disk still hold, and it is written as soon as that is possible, at the latest at the end.
func TestAReadOnlyDiskIsReadAndWrittenLater(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]bool{"while it runs": true, "at the end": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w, j := newInternet(), &testkit.Log{}
				w.set(domain, "1", enforce)
				w.set("flushed.example", "1", enforce)
				s := w.store(t, in(dir))
				require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
				require.Equal(t, found1, short(s.Lookup(t.Context(), "flushed.example", anything)))
				require.NoError(t, s.Close())

				var writable atomic.Bool
				s = stsstore.NewReadOnly(stsstore.Options{Resolver: w, Fetcher: w, StateDir: dir, Logger: j.Logger()}, &writable)
				w.set("other.example", "1", enforce)
				require.Equal(t, found1, short(s.Lookup(t.Context(), "other.example", anything)))
				require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "read from the disk")
				require.Equal(t, 3, w.fetches())
				require.True(t, s.Flush("flushed.example"))
				require.False(t, s.Stats().Persistent)
				require.Equal(t, 1, j.Count("state database cannot be written"))
				writable.Store(true)
				if runs {
					run(t, s)
					time.Sleep(5 * time.Second)
					require.True(t, s.Stats().Persistent)
				}
				require.NoError(t, s.Close())
				require.Equal(t, 1, j.Count("state database can be written again"))
				w.down(mtasts.FetchError)
				w.change(func() { clear(w.txt) })
				s = w.store(t, in(dir))
				require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), domain, anything)))
				require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), "other.example", anything)))
				require.Equal(t, "absent", short(s.Lookup(t.Context(), "flushed.example", anything)))
			})
		})
	}
}
