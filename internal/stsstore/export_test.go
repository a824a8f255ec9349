package stsstore

import (
	"os"
	"sync/atomic"
	"syscall"
)

// BreakDisk returns what closes the file under a store with these options, so that every use of it fails from then on.
func BreakDisk(o *Options) (broken func() error) {
	var file *os.File
	o.openFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	return func() error { return file.Close() }
}

// NewReadOnly returns a store like New, on a file system that is read-only until writable is set.
func NewReadOnly(o Options, writable *atomic.Bool) *Store {
	o.openFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if flag&(os.O_RDWR|os.O_CREATE) != 0 && !writable.Load() {
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EROFS}
		}
		return os.OpenFile(name, flag, mode)
	}
	return New(o)
}

// MaxFetches is how many policies are fetched concurrently.
const MaxFetches = maxFetches
