package unixsock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long Listen and Close wait for another process of the same user that makes or removes the same socket. To open
// takes longer than the other process may need to find out that no process answers.
const (
	waitToOpen  = 5 * time.Second
	waitToClose = 200 * time.Millisecond
	retryLock   = 20 * time.Millisecond
)

// socketName is the name of a socket in its private directory.
const socketName = "s"

// directory is an open directory.
type directory struct {
	file *os.File
	// path is absolute or relative to the working directory, also for a directory that was opened relative to another.
	path string
}

// openDirectory opens the directory of a socket. As root it refuses one that another user can write.
func openDirectory(path string) (*directory, error) {
	d, st, err := openAt(unix.AT_FDCWD, path)
	if err != nil {
		return nil, err
	}
	if err := refuse(st, os.Geteuid()); err != nil {
		d.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// openAt opens a directory, and never a symbolic link to one.
func openAt(at int, path string) (*directory, *unix.Stat_t, error) {
	fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		var st unix.Stat_t
		if unix.Fstatat(at, path, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil, nil, fmt.Errorf("%s is a symbolic link: write the path of the directory itself", path)
		}
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &directory{file: os.NewFile(uintptr(fd), path), path: path}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		d.close()
		return nil, nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return d, &st, nil
}

// refuse returns an error if the process is root and another user can write to the directory: that user could remove
// or replace the socket at any time.
func refuse(st *unix.Stat_t, euid int) error {
	const writableByOthers = 0o022
	if euid != 0 || st.Uid == 0 && st.Mode&writableByOthers == 0 {
		return nil
	}
	return fmt.Errorf(
		"another user can write to this directory (owner %d, mode %04o), so root does not make a socket in it: "+
			"use a directory that belongs to root with mode 0755, or run policyd as the owner", st.Uid, st.Mode&0o7777)
}

func (d *directory) fd() int { return int(d.file.Fd()) }

func (d *directory) close() { _ = d.file.Close() }

// stat examines an entry without following a symbolic link.
func (d *directory) stat(name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &os.PathError{Op: "stat", Path: filepath.Join(d.path, name), Err: err}
	}
	return &st, nil
}

// lock excludes other processes that make or remove the socket of that name. It locks a file of its own with mode
// 0600, which no other user can open and therefore no other user can lock. Nothing is left of it afterwards.
func (d *directory) lock(ctx context.Context, base string, wait time.Duration) (unlock func(), err error) {
	name := "." + base + ".lock"
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	retry := time.NewTicker(retryLock)
	defer retry.Stop()
	for {
		file, err := d.tryLock(name)
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", filepath.Join(d.path, name), err)
		}
		if file != nil {
			return func() {
				_ = unix.Unlinkat(d.fd(), name, 0)
				_ = file.Close()
			}, nil
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("another process holds the lock %s: %w", filepath.Join(d.path, name), ctx.Err())
		}
	}
}

// tryLock returns nil without an error if another process holds the lock, or has just removed it.
func (d *directory) tryLock(name string) (*os.File, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(d.fd(), name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() ||
		st.Mode&0o077 != 0) {
		err = errors.New("it is not a file with mode 0600 of this user: remove it")
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return nil, nil // the caller tries again
		}
		return nil, err
	}
	// The process that held the lock before may have removed the file between open and flock.
	if there, err := d.stat(name); err != nil || identityOf(there) != identityOf(&st) {
		_ = file.Close()
		return nil, nil //nolint:nilerr // the caller tries again
	}
	return file, nil
}

// private makes a directory in d that only this user can enter.
func (d *directory) private() (*directory, error) {
	name := ".s" + strings.ToLower(rand.Text()[:10])
	if err := unix.Mkdirat(d.fd(), name, 0o700); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: filepath.Join(d.path, name), Err: err}
	}
	p, st, err := openAt(d.fd(), name)
	if err == nil {
		p.path = filepath.Join(d.path, name)
	}
	if err == nil && (int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0) {
		p.close()
		err = errors.New("another user replaced the private directory " + filepath.Join(d.path, name))
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR)
		return nil, err
	}
	return p, nil
}

// removePrivate removes what private and bind made.
func (d *directory) removePrivate(p *directory) {
	_ = unix.Unlinkat(p.fd(), socketName, 0)
	_ = unix.Unlinkat(d.fd(), filepath.Base(p.path), unix.AT_REMOVEDIR)
	p.close()
}

// bind makes a listening socket in a private directory. Linux reaches the directory by its descriptor; elsewhere, or
// without /proc, bind(2) takes a path, and adjust verifies that the socket is where it should be.
func (d *directory) bind(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.fd(), socketName))
	if errors.Is(err, fs.ErrNotExist) {
		l, err = lc.Listen(ctx, "unix", filepath.Join(d.path, socketName))
	}
	if err != nil {
		return nil, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l, nil
}

// adjust sets mode and group of the socket in a private directory. No other user can replace it there.
func (d *directory) adjust(mode fs.FileMode, gid int) (identity, error) {
	st, err := d.stat(socketName)
	if err != nil {
		return identity{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return identity{}, errors.New("another user replaced the socket while it was made")
	}
	if gid >= 0 {
		if err := unix.Fchownat(d.fd(), socketName, -1, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return identity{}, &os.PathError{Op: "chown", Path: filepath.Join(d.path, socketName), Err: err}
		}
	}
	if err := unix.Fchmodat(d.fd(), socketName, uint32(mode.Perm()), 0); err != nil {
		return identity{}, &os.PathError{Op: "chmod", Path: filepath.Join(d.path, socketName), Err: err}
	}
	return identityOf(st), nil
}
