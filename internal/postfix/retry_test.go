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
	s := New(Options{Postconf: "/nonexistent/postconf"})
	v, err := s.read(t.Context())
	require.Error(t, err)
	v.read = time.Now().Add(time.Second - checkInterval)
	require.False(t, v.due())
	v.read = time.Now().Add(-checkInterval)
	require.True(t, v.due())
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.cf"), nil, 0o600))
	path, err := filepath.Abs("testdata/bin/postconf")
	require.NoError(t, err)
	s.Configure(Options{Postconf: path, ConfigDirectory: dir})
	v, err = s.read(t.Context())
	require.NoError(t, err)
	require.False(t, v.due())
}
