package unixsock_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/unixsock"
)

func TestListenTakesOverOnlyADeadSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	listen := func() (net.Listener, error) {
		return unixsock.Listen(context.Background(), "unix:"+path, unixsock.Options{Mode: 0o600, Group: strconv.Itoa(os.Getgid())})
	}
	first, err := listen()
	require.NoError(t, err)
	what, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, what.Mode())

	_, err = listen()
	require.ErrorContains(t, err, "another process answers at "+path)
	c, err := net.Dial("unix", path)
	require.NoError(t, err, "the live socket was left alone")
	require.NoError(t, c.Close())
	require.NoError(t, first.Close())
	require.NoFileExists(t, path)

	dead, err := net.Listen("unix", path)
	require.NoError(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	second, err := listen()
	require.NoError(t, err, "a socket that nobody answers on is taken over")
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside the socket")
	require.NoError(t, second.Close())
}

func TestListenTouchesNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link, sub := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "sub")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), link))
	require.NoError(t, os.Mkdir(sub, 0o700))
	for _, path := range []string{file, link, sub} {
		_, err := unixsock.Listen(t.Context(), "unix:"+path, unixsock.Options{})
		require.ErrorContains(t, err, "not a socket")
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "precious", string(content))
	for address, want := range map[string]string{
		"unix:":                             "is not the path of a socket",
		"unix:@abstract":                    "is not the path of a socket",
		"unix:" + dir + "/none/sock":        "no such file or directory",
		"unix:" + filepath.Join(dir, "new"): "unknown group",
	} {
		_, err := unixsock.Listen(t.Context(), address, unixsock.Options{Group: "no-such-group"})
		if want != "unknown group" {
			_, err = unixsock.Listen(t.Context(), address, unixsock.Options{})
		}
		require.ErrorContains(t, err, want)
	}
}

func TestOneOfManyGetsTheSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	var won atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			l, err := unixsock.Listen(context.Background(), "unix:"+path, unixsock.Options{})
			if err == nil {
				won.Add(1)
				t.Cleanup(func() { _ = l.Close() })
			}
		})
	}
	all.Wait()
	require.Equal(t, int64(1), won.Load())
}

func TestCloseLeavesAnothersSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	l, err := unixsock.Listen(t.Context(), "unix:"+path, unixsock.Options{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, l.Close())
	require.FileExists(t, path)
}

// Whoever may read the directory can lock it, and keep the lock: that must hold up neither the start nor the end for ever.
func TestListenInADirectoryThatStaysLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := unixsock.Listen(t.Context(), "unix:"+dir+"/sock", unixsock.Options{})
	require.NoError(t, err)

	other, err := os.Open(dir)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	require.NoError(t, syscall.Flock(int(other.Fd()), syscall.LOCK_EX))

	_, err = unixsock.Listen(t.Context(), "unix:"+dir+"/another", unixsock.Options{})
	require.ErrorContains(t, err, "another process has locked it")
	require.NoFileExists(t, dir+"/another")
	require.NoError(t, l.Close())
	_, err = net.Dial("unix", dir+"/sock")
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "closed all the same")

	require.NoError(t, other.Close())
	l, err = unixsock.Listen(t.Context(), "unix:"+dir+"/sock", unixsock.Options{})
	require.NoError(t, err, "and what was left there is taken over")
	require.NoError(t, l.Close())
	require.NoFileExists(t, dir+"/sock")
}
