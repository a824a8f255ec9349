package unixsock

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const socketName = ".s"

// An owner of the directory above swaps the directory for a symbolic link while the socket is made: nothing outside of
// the directory that was opened is changed.
func TestSwappingTheDirectoryChangesNoOtherFile(t *testing.T) {
	for name, swapBeforeBind := range map[string]bool{"before bind": true, "between bind and chmod": false} {
		top := t.TempDir()
		victim, shared := filepath.Join(top, "victim"), filepath.Join(top, "shared")
		require.NoError(t, os.Mkdir(victim, 0o755))
		require.NoError(t, os.Mkdir(shared, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(victim, socketName), []byte("precious"), 0o600))

		d, err := openDirectory(shared)
		require.NoError(t, err)
		swap := func() {
			require.NoError(t, os.Rename(shared, top+"/elsewhere"))
			require.NoError(t, os.Symlink(victim, shared))
		}
		if swapBeforeBind {
			swap()
		}
		l, err := bind(t.Context(), d, socketName)
		require.NoError(t, err, name)
		if !swapBeforeBind {
			swap()
		}
		gid := os.Getegid()
		if os.Geteuid() == 0 {
			gid = 65534 // a different group from that of the file, so that a change of the wrong one is visible
		}
		_, err = adjust(d, socketName, 0o666, gid)
		require.NoError(t, err, name)
		var st syscall.Stat_t
		require.NoError(t, syscall.Lstat(filepath.Join(victim, socketName), &st))
		require.Equal(t, os.Getegid(), int(st.Gid), name)
		what, err := os.Lstat(filepath.Join(victim, socketName))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), what.Mode(), name)
		what, err = os.Lstat(top + "/elsewhere/" + socketName)
		require.NoError(t, err)
		require.Equal(t, os.ModeSocket|0o666, what.Mode(), name)
		require.NoError(t, l.Close())
		require.NoError(t, d.Close())
		require.FileExists(t, filepath.Join(victim, socketName))
	}
}

// The socket itself is swapped for something else: its mode stays.
func TestAFileInPlaceOfTheSocketKeepsItsMode(t *testing.T) {
	dir := t.TempDir()
	d, err := openDirectory(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Symlink("file", filepath.Join(dir, "link")))
	for _, name := range []string{"file", "link"} {
		_, err = adjust(d, name, 0o666, -1)
		require.ErrorContains(t, err, "another user replaced the socket")
		what, err := os.Lstat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), what.Mode(), name)
	}
}

// info is what os.Stat returns for a directory.
type info struct {
	fs.FileInfo
	mode fs.FileMode
	uid  uint32
}

func (i info) Mode() fs.FileMode { return i.mode }
func (i info) Sys() any          { return &syscall.Stat_t{Uid: i.uid} }

func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		name    string
		mode    fs.FileMode
		uid     uint32
		euid    int
		refused bool
	}{
		{"root in a directory of root", 0o755, 0, 0, false},
		{"the directory of the package", fs.ModeSetgid | 0o750, 0, 0, false},
		{"a directory of another user", 0o755, 1000, 0, true},
		{"writable by a group", 0o775, 0, 0, true},
		{"writable by all", 0o777, 0, 0, true},
		{"writable by all, sticky", fs.ModeSticky | 0o777, 0, 0, true},
		{"not as root", 0o777, 1000, 1001, false},
	} {
		require.Equal(t, c.refused, refuse(info{mode: c.mode, uid: c.uid}, c.euid) != nil, c.name)
	}
}

// Before it has its mode, no other user can connect, whatever the umask of the process.
func TestBindListensForThisUserOnly(t *testing.T) {
	dir := t.TempDir()
	d, err := openDirectory(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	l, err := bind(t.Context(), d, socketName)
	require.NoError(t, err)
	what, err := d.Lstat(socketName)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, what.Mode())
	c, err := net.Dial("unix", filepath.Join(dir, socketName))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, l.Close())
}

// The error of every attempt is the same, so that it is logged once: it does not contain the name, which is random.
func TestTheErrorOfBindHasNoRandomName(t *testing.T) {
	dir := t.TempDir() + "/gone"
	require.NoError(t, os.Mkdir(dir, 0o755))
	d, err := openDirectory(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	require.NoError(t, os.Remove(dir))
	_, err = bind(t.Context(), d, socketName)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotContains(t, err.Error(), socketName)
}

// Two processes find the same dead socket, and one of them has already put its own there.
func TestRemoveFileRemovesNoOtherFile(t *testing.T) {
	dir := t.TempDir()
	d, err := openDirectory(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	require.NoError(t, os.WriteFile(dir+"/dead", nil, 0o600))
	dead, err := d.Lstat("dead")
	require.NoError(t, err)
	live, err := Listen(t.Context(), "unix:"+dir+"/sock", Options{})
	require.NoError(t, err)
	past := time.Unix(1, 0)
	require.NoError(t, os.Chtimes(dir, past, past))
	require.NoError(t, removeFile(d, "sock", dead))
	what, err := os.Stat(dir)
	require.NoError(t, err)
	require.True(t, what.ModTime().Equal(past), "a live socket is not moved: a third process could take its place")
	c, err := net.Dial("unix", dir+"/sock")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, live.Close())
	require.ErrorIs(t, removeFile(d, "sock", dead), fs.ErrNotExist, "nothing is there")
	require.NoError(t, removeFile(d, "dead", dead))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
