// Package unixsock opens listeners on TCP addresses and unix sockets (unix(7)).
// It replaces a stale socket safely and sets its mode and group before clients can
// reach it.
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
	"syscall"
	"time"
)

// Options are for unix sockets; they do nothing for TCP.
type Options struct {
	// Mode is the permission of the socket; 0 means 0660.
	Mode fs.FileMode
	// Group owns the socket, by name or number; "" means the group of the process.
	Group string
}

// Listen opens a listener at "host:port" or "unix:/path".
//
// A path is taken over only if a socket is there that nobody answers on. Anything else at the path, a live
// socket, a file, a directory or a symbolic link, is left as it is and an error says what it is.
// Permission and group are set before the socket can be reached at its path: it is made in a private
// directory beside it and then renamed. Two processes that do so at once do not steal from each other: the
// directory is locked meanwhile. Closing the listener removes the socket if it is still the one at the path.
func Listen(ctx context.Context, address string, o Options) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		var lc net.ListenConfig
		return lc.Listen(ctx, "tcp", address)
	}
	if path == "" || path[0] == '@' {
		return nil, fmt.Errorf("%q is not the path of a socket: write unix:/path", address)
	}
	if o.Mode == 0 {
		o.Mode = 0o660
	}
	gid, err := groupID(o.Group)
	if err != nil {
		return nil, err
	}
	unlock, err := lockDir(ctx, filepath.Dir(path), patienceToOpen)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	defer unlock()
	if err := vacant(ctx, path); err != nil {
		return nil, err
	}
	return place(ctx, path, o.Mode, gid)
}

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

// How long the lock of a directory is waited for: whoever may read the directory can hold it for ever. To open takes longer
// than another process may need to find out that nobody answers.
const (
	patienceToOpen  = 5 * time.Second
	patienceToClose = time.Second
)

// lockDir locks a directory against other processes that make or remove sockets in it.
func lockDir(ctx context.Context, dir string, patience time.Duration) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = d.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			_ = d.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			_ = d.Close()
			return nil, fmt.Errorf("another process has locked it: %s: %w", dir, ctx.Err())
		}
	}
}

// vacant returns nil if there is nothing at path, or a socket that nobody answers on.
func vacant(ctx context.Context, path string) error {
	what, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w", err)
	case what.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("there is something at %s that is not a socket (%s): move it away or choose another path", path, what.Mode())
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("another process answers at %s: is the service running already?", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("it is not clear whether somebody answers at %s: %w", path, err)
}

// place makes a listening socket and puts it at path.
func place(ctx context.Context, path string, mode fs.FileMode, gid int) (net.Listener, error) {
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	defer func() { _ = os.RemoveAll(private) }()
	made := filepath.Join(private, "s")
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", made)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s (by way of %s): %w", path, made, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	err = os.Chown(made, -1, gid)
	if err == nil {
		err = os.Chmod(made, mode)
	}
	var own fs.FileInfo
	if err == nil {
		own, err = os.Lstat(made)
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	return &unixListener{Listener: l, path: path, own: own}, nil
}

// unixListener removes its socket when it is closed.
type unixListener struct {
	net.Listener
	path string
	own  fs.FileInfo
}

// Addr returns the path at which the socket can be reached.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close closes the listener and removes the socket, unless something else is at the path by now, or the lock of the directory
// cannot be had: a socket that nobody answers on does no harm.
func (l *unixListener) Close() error {
	if unlock, err := lockDir(context.Background(), filepath.Dir(l.path), patienceToClose); err == nil {
		defer unlock()
		if there, err := os.Lstat(l.path); err == nil && os.SameFile(there, l.own) {
			_ = os.Remove(l.path)
		}
	}
	return l.Listener.Close()
}
