package postfix

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// "recovery within seconds": what could not be read is read again soon, and a little later each time.
func TestAFailureIsTriedAgainSoon(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Postconf: "/nonexistent/postconf"})
	require.NoError(t, err)
	for _, want := range []time.Duration{2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		v, err := s.read(t.Context())
		require.Error(t, err)
		require.Equal(t, want, v.retry)
		v.read = time.Now().Add(time.Second - want)
		require.False(t, s.due(v))
		v.read = time.Now().Add(-want)
		require.True(t, s.due(v))
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.cf"), nil, 0o600))
	path, err := filepath.Abs("testdata/bin/postconf")
	require.NoError(t, err)
	require.NoError(t, s.Configure(Options{Postconf: path, ConfigDirectory: dir}))
	v, err := s.read(t.Context())
	require.NoError(t, err)
	require.Zero(t, v.retry)
	require.NoError(t, s.Configure(Options{Postconf: "/nonexistent/postconf"}))
	v, err = s.read(t.Context())
	require.Error(t, err)
	require.Equal(t, 2*time.Second, v.retry)
}
