package stsstore_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/testkit"
)

func TestAFileThatIsCorruptIsRenamed(t *testing.T) {
	t.Parallel()
	garbage := bytes.Repeat([]byte("not a database at all. "), 20000)
	for _, c := range []struct {
		name   string
		damage func(whole []byte) []byte
		late   bool // it shows only when a policy is looked for
	}{
		{"garbage", func([]byte) []byte { return garbage }, false},
		{"a few octets", func([]byte) []byte { return []byte("x") }, false},
		{"cut within the second meta page", func(w []byte) []byte { return w[:5000] }, false},
		{"meta pages overwritten", func(w []byte) []byte { return append(garbage[:8192:8192], w[8192:]...) }, false},
		{"cut after the meta pages", func(w []byte) []byte { return w[:8192] }, false},
		{"all but the meta pages overwritten", func(w []byte) []byte { return append(w[:8192:8192], garbage[:len(w)-8192]...) }, true},
		{"all but the meta pages zero", func(w []byte) []byte { return append(w[:8192:8192], make([]byte, len(w)-8192)...) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "mtasts.db")
			w, j := newInternet(), &testkit.Log{}
			log := func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() }
			s := w.store(t, log)
			for i := range 60 {
				name := fmt.Sprintf("d%d.example", i)
				w.set(name, "1", enforce)
				require.Equal(t, mtasts.Found, s.Lookup(t.Context(), name, anything).State)
			}
			require.NoError(t, s.Close())
			whole, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, c.damage(whole), 0o600))

			s = w.store(t, log)
			require.Equal(t, mtasts.Found, s.Lookup(t.Context(), "d1.example", anything).State)
			run(t, s)
			w.set(domain, "1", enforce)
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
			require.Equal(t, 1, j.Count("renamed it"))
			require.FileExists(t, file+".corrupt")
			require.True(t, s.Stats().Persistent, "and a new file is there")
			require.NoError(t, s.Close())

			w.down(mtasts.FetchError)
			s = w.store(t, log)
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
			require.Equal(t, found1, short(s.Lookup(t.Context(), "d1.example", anything)))
			require.Equal(t, 1, j.Count("renamed it"))
		})
	}
}

func TestAFileThatIsDamagedInUseIsReplaced(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(file string, size int64) error{
		"cut":         func(file string, _ int64) error { return os.Truncate(file, 8192) },
		"overwritten": overwrite,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "mtasts.db")
			w, j := newInternet(), &testkit.Log{}
			s := w.store(t, func(o *stsstore.Options) { o.StateDir, o.Logger = dir, j.Logger() })
			for i := range 60 {
				name := fmt.Sprintf("d%d.example", i)
				w.set(name, "1", enforce)
				require.Equal(t, mtasts.Found, s.Lookup(t.Context(), name, anything).State)
			}
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.NoError(t, damage(file, info.Size()))
			w.set(domain, "1", enforce)
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
			require.Equal(t, 1, j.Count("is corrupt"))
			require.False(t, s.Stats().Persistent)
			require.NoError(t, s.Close())
			w.down(mtasts.FetchError)
			s = w.store(t, in(dir))
			require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "the new file has the last policy")
			require.Equal(t, found1, short(s.Lookup(t.Context(), "d7.example", anything)), "and those that were in memory")
		})
	}
}
