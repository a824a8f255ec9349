// Package regfile reads files that an operator names, without waiting on a FIFO, a device or a file system that does
// not answer.
package regfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	// timeout bounds one read. A local disk takes milliseconds, a network file system that is well much less than this.
	timeout = 3 * time.Second
	maxSize = 64 << 20
)

// ErrNotRegular is the error for a FIFO, a device, a directory or a socket in place of a file.
var ErrNotRegular = errors.New("not a regular file")

var errTooLarge = fmt.Errorf("the file has more than %d MiB", maxSize>>20)

// Read returns the content of the regular file at path, which may be a symbolic link to one. The errors are those of
// os.ReadFile, ErrNotRegular, os.ErrDeadlineExceeded if the file system does not answer within 3 seconds, or one for a
// file of more than 64 MiB. All of them are an *fs.PathError.
//
// The device /dev/null is an empty file. A path such as /dev/stdin or /dev/fd/3 is a descriptor of this process: it may
// be a pipe and is read to its end.
func Read(path string) ([]byte, error) {
	if ownDescriptor(path) {
		return readAll(os.Open(path))
	}
	content, err := within(timeout, func() ([]byte, error) { return read(path) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return content, err
}

func ownDescriptor(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

// read opens the file only after stat: to open a device can already change it.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(info, null) {
		return nil, nil
	}
	if err := regular(path, info); err != nil {
		return nil, err
	}
	// O_NONBLOCK: a FIFO may have taken the place of the file since.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err = file.Stat(); err == nil {
		err = regular(path, info)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return readAll(file, nil)
}

// readAll reads a file that was opened to its end and closes it.
func readAll(file *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && len(content) > maxSize { // a pipe, or a file that grew
		content, err = nil, &fs.PathError{Op: "read", Path: file.Name(), Err: errTooLarge}
	}
	return content, err
}

func regular(path string, info fs.FileInfo) error {
	kind := ""
	switch mode := info.Mode(); {
	case mode.IsRegular() && info.Size() > maxSize:
		return &fs.PathError{Op: "read", Path: path, Err: errTooLarge}
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a FIFO"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	default:
		kind = "a device"
	}
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w but %s", ErrNotRegular, kind)}
}

// within returns what f returns, or os.ErrDeadlineExceeded after d. A system call on a file system that does not answer
// cannot be interrupted: f continues by itself until the file system answers.
func within(d time.Duration, f func() ([]byte, error)) ([]byte, error) {
	type result struct {
		content []byte
		err     error
	}
	done := make(chan result, 1)
	go func() {
		content, err := f()
		done <- result{content, err}
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.content, r.err
	case <-timer.C:
		return nil, fmt.Errorf("the file system did not answer within %v: %w", d, os.ErrDeadlineExceeded)
	}
}
