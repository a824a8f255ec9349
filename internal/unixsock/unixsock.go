// Package unixsock opens listeners on TCP addresses and unix sockets (unix(7)).
//
// A unix socket gets its mode and group before clients can reach it, replaces only a dead socket, and is removed when
// its listener is closed. All of that works on an open directory (os.Root), never on a path: a user who can write to
// the directory cannot redirect a chmod or chown to a file elsewhere.
package unixsock

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options are for unix sockets; TCP listeners ignore them.
type Options struct {
	Mode  fs.FileMode // the mode of the socket; 0 means 0660
	Group string      // its group, by name or number; "" means that of the process, or of a set-group-ID directory
}

// Listen opens a listener at "host:port" or "unix:/path". The listener of a unix socket is a *Listener.
//
// A socket at the path is replaced only if no process answers on it. Anything else at the path (a live socket, a file,
// a directory, a symbolic link) is left as it is, and the error names it. The last component of the directory must not
// be a symbolic link. As root, Listen refuses a directory that another user can write.
func Listen(ctx context.Context, address string, o Options) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		var lc net.ListenConfig
		return lc.Listen(ctx, "tcp", address)
	}
	l, err := listen(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	return l, nil
}

// listen makes a socket with a name of its own, and gives it the name that clients use when it has its mode and group.
func listen(ctx context.Context, path string, o Options) (_ *Listener, err error) {
	gid, err := GroupID(o.Group)
	if err != nil {
		return nil, err
	}
	dir, err := openDirectory(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, dir: dir}
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	name := ".s" + rand.Text()
	if l.Listener, err = bind(ctx, dir, name); err != nil {
		return nil, err
	}
	defer func() { _ = dir.Remove(name) }()
	if l.info, err = adjust(dir, name, cmp.Or(o.Mode, 0o660), gid); err != nil {
		return nil, err
	}
	for {
		// Unlike a rename, a link never replaces what another process has put there.
		if err = dir.Link(name, filepath.Base(path)); !errors.Is(err, fs.ErrExist) {
			return l, err
		}
		if err = removeDead(ctx, dir, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// GroupID returns the number of a group with this name or number; -1 for "", which leaves the group as it is.
func GroupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	const unchanged = math.MaxUint32 // to chown(2)
	if gid, err := strconv.ParseUint(group, 10, 32); err == nil && gid < unchanged {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("the group of the socket: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// bind makes a listening socket that only this user can connect to: on Linux the mode of the descriptor becomes that of
// the file, and elsewhere the umask applies. Linux reaches the directory by its descriptor. Without /proc, bind(2)
// takes a path, and adjust verifies that the socket is where it should be.
func bind(ctx context.Context, dir *os.Root, name string) (net.Listener, error) {
	open, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = open.Close() }()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	l, err := lc.Listen(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", open.Fd(), name))
	if errors.Is(err, fs.ErrNotExist) {
		l, err = lc.Listen(ctx, "unix", filepath.Join(dir.Name(), name))
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err // without the name, which differs every time
	}
	return l, err
}

// adjust sets mode and group of the socket that bind made.
func adjust(dir *os.Root, name string, mode fs.FileMode, gid int) (fs.FileInfo, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("another user replaced the socket while it was made")
	}
	return info, errors.Join(dir.Lchown(name, -1, gid), dir.Chmod(name, mode.Perm()))
}

// removeDead removes a socket that no process answers on; otherwise the error names what is at path.
func removeDead(ctx context.Context, dir *os.Root, path string) error {
	dead, err := dir.Lstat(filepath.Base(path))
	switch {
	case err != nil:
		return err
	case dead.Mode().Type() != fs.ModeSocket:
		return errors.New("it exists and is not a socket: move it away or choose another path")
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	c, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return errors.New("another process answers there: is the service already running?")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return removeFile(dir, filepath.Base(path), dead)
	}
	return fmt.Errorf("it is unknown whether another process answers there: %w", err)
}

// removeFile removes a file, unless its name now leads to another one: another process may have replaced a dead socket
// with a live one.
func removeFile(dir *os.Root, name string, file fs.FileInfo) error {
	there, err := dir.Lstat(name)
	if err != nil || !os.SameFile(there, file) {
		return err
	}
	return dir.Remove(name)
}

// Listener is the listener of a unix socket that knows which file is its own.
type Listener struct {
	net.Listener
	path string
	info fs.FileInfo // the file of the socket; nil if there was none
	dir  *os.Root    // nil for an adopted listener, which leaves its socket alone
}

// Addr returns the path of the socket.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close removes the socket, unless something else is at the path by now, and closes the listener.
func (l *Listener) Close() error {
	if l.dir != nil {
		_ = removeFile(l.dir, filepath.Base(l.path), l.info)
		_ = l.dir.Close()
	}
	if l.Listener == nil {
		return nil
	}
	return l.Listener.Close()
}
