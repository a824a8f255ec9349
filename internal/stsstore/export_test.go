package stsstore

import (
	"os"
	"sync/atomic"
	"syscall"

	"github.com/policyd/policyd/internal/statedb"
)

// BreakDisk closes the database under a store, so that every use of it fails from now on.
func (s *Store) BreakDisk() error { return s.disk.Break() }

// NewReadOnly returns a store like New, on a file system that is read-only until writable is set.
func NewReadOnly(o Options, writable *atomic.Bool) (*Store, error) {
	s, err := newStore(o)
	if err != nil {
		return nil, err
	}
	s.disk = newDisk(s.options.Load(), func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if flag&(os.O_RDWR|os.O_CREATE) != 0 && !writable.Load() {
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EROFS}
		}
		return os.OpenFile(name, flag, mode)
	})
	s.openDisk(statedb.StartLockTimeout)
	return s, nil
}

// MaxFetches is how many policies are fetched concurrently.
const MaxFetches = maxFetches
