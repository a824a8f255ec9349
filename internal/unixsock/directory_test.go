package unixsock

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// An owner of the directory swaps the private directory for a symbolic link while the socket is made: nothing outside
// of the private directory is changed.
func TestSwappingThePrivateDirectoryChangesNoOtherFile(t *testing.T) {
	for name, swapBeforeBind := range map[string]bool{"before bind": true, "between bind and chmod": false} {
		top := t.TempDir()
		victim, shared := filepath.Join(top, "victim"), filepath.Join(top, "shared")
		require.NoError(t, os.Mkdir(victim, 0o755))
		require.NoError(t, os.Mkdir(shared, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(victim, socketName), []byte("precious"), 0o600))

		d, err := openDirectory(shared)
		require.NoError(t, err)
		p, err := d.private()
		require.NoError(t, err)
		swap := func() {
			require.NoError(t, os.Rename(p.path, shared+"/elsewhere"))
			require.NoError(t, os.Symlink(victim, p.path))
		}
		if swapBeforeBind {
			swap()
		}
		l, err := p.bind(t.Context())
		require.NoError(t, err, name)
		if !swapBeforeBind {
			swap()
		}
		gid := os.Getegid()
		if os.Geteuid() == 0 {
			gid = 65534 // another group than that of the file, so that a change of the wrong one shows
		}
		_, err = p.adjust(0o666, gid)
		require.NoError(t, err, name)
		var st syscall.Stat_t
		require.NoError(t, syscall.Lstat(filepath.Join(victim, socketName), &st))
		require.Equal(t, os.Getegid(), int(st.Gid), name)
		what, err := os.Lstat(filepath.Join(victim, socketName))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), what.Mode(), name)
		what, err = os.Lstat(shared + "/elsewhere/" + socketName)
		require.NoError(t, err)
		require.Equal(t, os.ModeSocket|0o666, what.Mode(), name)
		require.NoError(t, l.Close())
		d.removePrivate(p)
		require.FileExists(t, filepath.Join(victim, socketName))
		d.close()
	}
}

// The socket itself is swapped for a file: its mode stays.
func TestAFileInPlaceOfTheSocketKeepsItsMode(t *testing.T) {
	d, err := openDirectory(t.TempDir())
	require.NoError(t, err)
	defer d.close()
	p, err := d.private()
	require.NoError(t, err)
	defer d.removePrivate(p)
	require.NoError(t, os.WriteFile(filepath.Join(p.path, socketName), nil, 0o600))
	_, err = p.adjust(0o666, -1)
	require.ErrorContains(t, err, "another user replaced the socket")
}

func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		name      string
		mode, uid uint32
		euid      int
		refused   bool
	}{
		{"root in a directory of root", 0o755, 0, 0, false},
		{"the directory of the package", 0o2750, 0, 0, false},
		{"a directory of another user", 0o755, 1000, 0, true},
		{"writable by a group", 0o775, 0, 0, true},
		{"writable by all", 0o777, 0, 0, true},
		{"writable by all, sticky", 0o1777, 0, 0, true},
		{"not as root", 0o777, 1000, 1001, false},
	} {
		st := unix.Stat_t{Uid: c.uid}
		st.Mode = c.mode
		require.Equal(t, c.refused, refuse(&st, c.euid) != nil, c.name)
	}
}

// Where there is no /proc, the path is used. Linux with /proc gets the same listener from it.
func TestBindListens(t *testing.T) {
	d, err := openDirectory(t.TempDir())
	require.NoError(t, err)
	defer d.close()
	p, err := d.private()
	require.NoError(t, err)
	l, err := p.bind(t.Context())
	require.NoError(t, err)
	c, err := net.Dial("unix", filepath.Join(p.path, socketName))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, l.Close())
	d.removePrivate(p)
	require.NoDirExists(t, p.path)
}
