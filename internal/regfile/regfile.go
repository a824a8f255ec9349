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
	"time"
)

const (
	// timeout bounds one read. A local disk takes milliseconds, a network file system that is well much less than this.
	timeout = 3 * time.Second
	maxSize = 64 << 20
)

// ErrNotRegular is the error for a FIFO, a device, a directory or a socket in place of a file.
var ErrNotRegular = errors.New("not a regular file")

var errTooLarge = fmt.Errorf("it is larger than %d MiB", maxSize>>20)

// Read returns the content of the regular file at path, which may be a symbolic link to one. The errors are those of
// os.ReadFile, ErrNotRegular, os.ErrDeadlineExceeded if the file system does not answer within 3 seconds, or one for a
// file of more than 64 MiB. All of them are an *fs.PathError.
//
// The device /dev/null is an empty file. A path such as /dev/stdin or /dev/fd/3 is a descriptor of this process: it may
// be a pipe and is read to its end.
func Read(path string) ([]byte, error) {
	if path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/") {
		return readAll(path)
	}
	return within(timeout, path, read)
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
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: %s", ErrNotRegular, info.Mode())}
	}
	if info.Size() > maxSize {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	return readAll(path)
}

func readAll(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && len(content) > maxSize {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	return content, err
}

// within returns what f returns, or os.ErrDeadlineExceeded after d. A system call on a file system that does not answer
// cannot be interrupted: f continues by itself until the file system answers.
func within(d time.Duration, path string, f func(path string) ([]byte, error)) ([]byte, error) {
	var content []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		content, err = f(path)
	}()
	select {
	case <-done:
		return content, err
	case <-time.After(d):
		return nil, &fs.PathError{Op: "read", Path: path,
			Err: fmt.Errorf("the file system did not answer within %v: %w", d, os.ErrDeadlineExceeded)}
	}
}
