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
	require.ErrorContains(t, err, path+": another process answers there")
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
	require.NoError(t, err, "a dead socket is taken over")
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

// Every user who can read the directory can flock(2) it, and keep the lock.
func TestALockOnTheDirectoryBlocksNeitherListenNorClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, err := os.Open(dir)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	require.NoError(t, syscall.Flock(int(other.Fd()), syscall.LOCK_EX))

	l, err := unixsock.Listen(t.Context(), "unix:"+dir+"/sock", unixsock.Options{})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// otherGroup returns a group that files of this process do not get by themselves, if the process may use one.
func otherGroup(t *testing.T) int {
	t.Helper()
	if os.Geteuid() == 0 {
		return 65533
	}
	groups, err := os.Getgroups()
	require.NoError(t, err)
	for _, g := range groups {
		if g != os.Getegid() {
			return g
		}
	}
	return os.Getegid()
}

func TestTheSocketHasModeAndGroupOfTheOptions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	gid := otherGroup(t)
	l, err := unixsock.Listen(t.Context(), "unix:"+path, unixsock.Options{Mode: 0o620, Group: strconv.Itoa(gid)})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	what, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o620, what.Mode())
	require.EqualValues(t, gid, what.Sys().(*syscall.Stat_t).Gid)
}

func TestTheDirectoryMustNotBeASymbolicLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/real", 0o755))
	require.NoError(t, os.Symlink("real", dir+"/link"))
	_, err := unixsock.Listen(t.Context(), "unix:"+dir+"/link/sock", unixsock.Options{})
	require.ErrorContains(t, err, dir+"/link is a symbolic link: write the path of the directory itself")
	entries, err := os.ReadDir(dir + "/real")
	require.NoError(t, err)
	require.Empty(t, entries)
}

// As root, a directory that another user can write is refused. Other users may use such a directory.
func TestDirectoryThatAnotherUserCanWrite(t *testing.T) {
	t.Parallel()
	const otherUser = 65534
	for name, prepare := range map[string]func(dir string) error{
		"mode 0777":  func(dir string) error { return os.Chmod(dir, 0o777) },
		"mode 1777":  func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) },
		"mode 0775":  func(dir string) error { return os.Chmod(dir, 0o775) },
		"mode 02770": func(dir string) error { return os.Chmod(dir, 0o770|os.ModeSetgid) },
		"owner": func(dir string) error {
			if os.Geteuid() != 0 {
				return nil
			}
			return os.Chown(dir, otherUser, -1)
		},
	} {
		dir := t.TempDir()
		require.NoError(t, prepare(dir))
		l, err := unixsock.Listen(t.Context(), "unix:"+dir+"/sock", unixsock.Options{})
		if os.Geteuid() == 0 {
			require.ErrorContains(t, err, "another user can write to this directory", name)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, name)
			continue
		}
		require.NoError(t, err, name)
		require.NoError(t, l.Close())
	}
}

// A directory that this user may not enter hides the path: the socket then counts as reachable.
func TestReachableWithoutPermission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/sock")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	file := dir + "/file"
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	// Root may enter every directory; a file in the place of one refuses root too, and with another error than "not found".
	require.NoError(t, unixsock.Adopt(named{l, file + "/sock"}).Reachable())
}

// named is a listener with another path.
type named struct {
	net.Listener
	path string
}

func (n named) Addr() net.Addr { return &net.UnixAddr{Name: n.path, Net: "unix"} }

func TestReachable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/sock"
	made, err := unixsock.Listen(t.Context(), "unix:"+path, unixsock.Options{})
	require.NoError(t, err)
	l, ok := made.(*unixsock.Listener)
	require.True(t, ok)
	require.NoError(t, l.Reachable())
	require.NoError(t, os.Rename(path, dir+"/moved"))
	require.EqualError(t, l.Reachable(), "the socket "+path+" was removed")
	other, err := net.Listen("unix", path)
	require.NoError(t, err)
	require.EqualError(t, l.Reachable(), path+" was replaced by something else")
	require.NoError(t, other.Close())
	require.NoError(t, os.Rename(dir+"/moved", path))
	require.NoError(t, l.Reachable())
	require.NoError(t, l.Close())
	require.NoFileExists(t, path)

	passed, err := net.Listen("unix", path)
	require.NoError(t, err)
	passed.(*net.UnixListener).SetUnlinkOnClose(false)
	a := unixsock.Adopt(passed)
	require.NoError(t, a.Reachable())
	require.Equal(t, path, a.Addr().String())
	require.NoError(t, os.Remove(path))
	require.Error(t, a.Reachable())
	require.Error(t, unixsock.Adopt(passed).Reachable(), "already gone when it was adopted")
	require.NoError(t, a.Close())
}
