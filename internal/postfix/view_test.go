package postfix

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A file counts as changed also when its replacement has the same size and modification time, as tools that copy with
// times leave it.
func TestAChangedFile(t *testing.T) {
	t.Parallel()
	local, err := net.InterfaceAddrs()
	require.NoError(t, err)
	path, then := filepath.Join(t.TempDir(), "main.cf"), time.Now().Add(-time.Hour)
	write := func(path, text string) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(path, then, then))
	}
	noted := func() *view {
		v := &view{files: map[string]os.FileInfo{}, interfaces: fmt.Sprint(local)}
		v.noteState(path)
		return v
	}
	absent := noted()
	require.False(t, absent.changed())
	write(path, "a = 1")
	require.True(t, absent.changed())
	present := noted()
	require.False(t, present.changed())
	write(path+".new", "a = 2")
	require.NoError(t, os.Rename(path+".new", path))
	require.True(t, present.changed(), "another file of the same size and time")
	present = noted()
	require.NoError(t, os.Remove(path))
	require.True(t, present.changed())
}
