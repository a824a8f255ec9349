package stsstore

import (
	"os"
	"sync/atomic"
	"syscall"
)

// BreakDisk closes the database under a store, so that every use of it fails from now on.
func (s *Store) BreakDisk() error { return s.disk.Break() }

// NewReadOnly returns a store like New, on a file system that is read-only until writable is set.
func NewReadOnly(o Options, writable *atomic.Bool) (*Store, error) {
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
