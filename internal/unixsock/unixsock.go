// Package unixsock opens listeners on TCP addresses and unix sockets (unix(7)).
//
// A unix socket gets its mode and group before clients can reach it, replaces only a
// dead socket, and is removed when its listener is closed. All of
// that works on a descriptor of the directory, never on a path: a user who can write
// to the directory cannot redirect a chmod or chown to a file of their choice.
package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options are for unix sockets; TCP listeners ignore them.
type Options struct {
	// Mode is the permission of the socket; 0 means 0660.
	Mode fs.FileMode
	// Group owns the socket, by name or number; "" means the group of the process, or of the directory if that has
	// the set-group-ID bit.
	Group string
}

// Listen opens a listener at "host:port" or "unix:/path". The listener of a unix socket is a *Listener.
//
// A socket at the path is replaced only if no process answers on it. Anything else at the path (a live socket, a file,
// a directory, a symbolic link) is left as it is, and the error names it. Concurrent processes do not replace each
// other's sockets. The last component of the directory must not be a symbolic link. As root, Listen refuses a
// directory that another user can write.
func Listen(ctx context.Context, address string, o Options) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		var lc net.ListenConfig
		return lc.Listen(ctx, "tcp", address)
	}
	base := filepath.Base(path)
	if path == "" || path[0] == '@' || base == "." || base == "/" || base == ".." {
		return nil, fmt.Errorf("%q is not the path of a socket: write unix:/path", address)
	}
	if longest := len(unix.RawSockaddrUnix{}.Path) - 1; len(path) > longest {
		return nil, fmt.Errorf("the path of the socket has %d bytes, and at most %d can be used: %s", len(path),
			longest, path)
	}
	if o.Mode == 0 {
		o.Mode = 0o660
	}
	gid, err := groupID(o.Group)
	if err != nil {
		return nil, err
	}
	dir, err := openDirectory(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	l, err := dir.listen(ctx, path, o.Mode, gid)
	if err != nil {
		dir.close()
		return nil, err
	}
	return l, nil
}

// groupID returns -1 for "", which leaves the group as it is.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("the group of the socket: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// listen makes a listening socket and moves it to path, which is in d.
func (d *directory) listen(ctx context.Context, path string, mode fs.FileMode, gid int) (*Listener, error) {
	base := filepath.Base(path)
	unlock, err := d.lock(ctx, base, waitToOpen)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	defer unlock()
	if err := d.vacant(ctx, path); err != nil {
		return nil, err
	}
	private, err := d.private()
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	defer d.removePrivate(private)
	l, err := private.bind(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	id, err := private.adjust(mode, gid)
	if err == nil {
		err = unix.Renameat(private.fd(), socketName, d.fd(), base)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	return &Listener{Listener: l, path: path, id: id, dir: d}, nil
}

// vacant returns nil if there is nothing at path, or a socket that no process answers on.
func (d *directory) vacant(ctx context.Context, path string) error {
	st, err := d.stat(filepath.Base(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot examine %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("%s exists and is not a socket: move it away or choose another path", path)
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	c, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("another process answers at %s: is the service already running?", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("it is unknown whether another process answers at %s: %w", path, err)
}

// Listener is the listener of a unix socket that knows which file is its own.
type Listener struct {
	net.Listener
	path string
	id   identity // of the socket at path; the zero value if it was removed before
	// hidden is set for an adopted listener whose path this user may not look at.
	hidden bool
	dir    *directory // nil for an adopted listener, which leaves its socket alone
	once   sync.Once  // of Close
	err    error      // of the first Close
}

// Adopt wraps the listener of a unix socket that another process made, such as systemd. The socket that is at its
// path now is taken to be its own. Closing it does not remove the socket.
func Adopt(l net.Listener) *Listener {
	a := &Listener{Listener: l, path: l.Addr().String()}
	var err error
	a.id, err = socketAt(a.path)
	a.hidden = err != nil && !errors.Is(err, fs.ErrNotExist)
	return a
}

// Addr returns the path of the socket.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Reachable returns nil while clients that connect to the path reach this listener, and also if this user may not look
// at the path. The error names the reason otherwise: the socket was removed, or something else is at the path.
func (l *Listener) Reachable() error {
	there, err := socketAt(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the socket %s was removed", l.path)
	case err != nil, l.hidden:
		return nil //nolint:nilerr // not known, and no reason to make the socket again
	case there != l.id:
		return fmt.Errorf("%s was replaced by something else", l.path)
	}
	return nil
}

// Close closes the listener and removes the socket, unless something else is at the path by now, or another process
// of this user holds the lock: a dead socket does no harm. It may be called more than once.
func (l *Listener) Close() error {
	l.once.Do(func() {
		if l.dir != nil {
			l.remove()
		}
		l.err = l.Listener.Close()
	})
	return l.err
}

// remove removes the socket from its directory and closes the directory.
func (l *Listener) remove() {
	defer l.dir.close()
	base := filepath.Base(l.path)
	unlock, err := l.dir.lock(context.Background(), base, waitToClose)
	if err != nil {
		return
	}
	defer unlock()
	if st, err := l.dir.stat(base); err == nil && identityOf(st) == l.id {
		_ = unix.Unlinkat(l.dir.fd(), base, 0)
	}
}

// identity tells one file from another.
type identity struct{ dev, ino uint64 }

func identityOf(st *unix.Stat_t) identity { return identity{uint64(st.Dev), uint64(st.Ino)} }

func socketAt(path string) (identity, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return identity{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return identityOf(&st), nil
}
