package statedb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/policyd/policyd/internal/text"
)

const (
	// startLockTimeout is how long the start waits for the lock on the file, and retryLockTimeout how long later
	// attempts do.
	startLockTimeout = time.Second
	retryLockTimeout = time.Millisecond
	// syncInterval is how often Run looks whether the file is still in its place, or can be opened again.
	syncInterval = 2 * time.Second
	// writePause is the least time between two writes of Run, so a crash can cost the changes of that time. Without
	// the pause, writing took a tenth of the processor time of cold lookups.
	writePause = 200 * time.Millisecond

	dirMode  = 0o750
	fileMode = 0o600
	// maxText bounds the text of an error in a log line.
	maxText = 1000
)

var errCorrupt = errors.New("statedb: corrupt database")

func (t *Table[V]) path() string { return filepath.Join(t.o.Dir, t.o.Name) }

// IsOpen reports whether the database is open, so that what is saved reaches the disk.
func (t *Table[V]) IsOpen() bool {
	t.disk.Lock()
	defer t.disk.Unlock()
	return t.db != nil
}

// Mark notes that records have changed or were removed. Run or the next Save puts that on disk. It never waits.
func (t *Table[V]) Mark(names ...string) {
	if t.o.Dir == "" {
		return
	}
	t.marking.Lock()
	for _, name := range names {
		t.marked[name] = struct{}{}
	}
	t.marking.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run writes what is marked until ctx ends. A change after an idle time is written immediately; changes that arrive
// during a write and the pause after it go together into the next one.
func (t *Table[V]) Run(ctx context.Context) error {
	tick := time.NewTicker(syncInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			t.Sync()
		case <-t.wake:
			t.Save()
			select {
			case <-ctx.Done():
			case <-time.After(writePause):
			}
		}
	}
}

// Save writes the marked records, if the database is open. After a fault it is not open any more, and everything is
// written when it is opened again.
func (t *Table[V]) Save() {
	t.disk.Lock()
	defer t.disk.Unlock()
	t.save()
}

func (t *Table[V]) save() {
	t.marking.Lock()
	names := t.marked
	t.marked = map[string]struct{}{}
	t.marking.Unlock()
	if t.db == nil {
		return
	}
	if err := catchFaults(func() error { return t.write(names) }); err != nil {
		t.fail(err)
	} else if t.warned {
		t.o.Log.Info("state database can be written again", "file", t.path())
		t.warned = false
	}
}

// Sync opens the database if it is not open, and again if its file was removed or replaced, and saves.
func (t *Table[V]) Sync() {
	t.disk.Lock()
	defer t.disk.Unlock()
	t.sync(retryLockTimeout)
}

func (t *Table[V]) sync(lockTimeout time.Duration) {
	t.closeIfReplaced()
	if t.db == nil && !t.closed {
		err := t.open(lockTimeout, false)
		if corrupt(err) {
			t.fail(err)
			err = t.open(lockTimeout, false) // a new file
		}
		if !t.loaded && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
			_ = t.open(lockTimeout, true) // to read the records; err is the fault to report
		}
		if err != nil {
			t.fail(err)
		}
	}
	t.save()
}

// open opens the file, reads it, and marks the records that must be written so that the file agrees with memory. After
// an error, and with readOnly, the caller closes the file.
func (t *Table[V]) open(lockTimeout time.Duration, readOnly bool) error {
	return catchFaults(func() (err error) {
		if err := os.MkdirAll(t.o.Dir, dirMode); err != nil {
			return err
		}
		t.db, err = bbolt.Open(t.path(), fileMode, &bbolt.Options{
			Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, ReadOnly: readOnly, OpenFile: t.o.OpenFile,
		})
		switch {
		case err != nil && strings.HasPrefix(err.Error(), "file size too small"): // bbolt does not export this error
			return fmt.Errorf("%w: %w", errCorrupt, err)
		case err != nil:
			return err
		}
		t.file, _ = os.Stat(t.path()) // nil does not equal any file, which closeIfReplaced notices
		t.Mark(t.Names()...)
		return t.db.View(t.read)
	})
}

// read takes over the records on disk, the first time that it succeeds. Later, after a fault, memory is newer.
func (t *Table[V]) read(tx *bbolt.Tx) error {
	if b := tx.Bucket([]byte(t.o.Bucket)); b != nil {
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if t.loaded || !t.load(string(k), v) {
				t.Mark(string(k))
			}
		}
	}
	t.loaded = true
	return nil
}

// write writes the present state of some records to disk. It encodes them within a transaction, so the last change in
// memory is the last on disk. A transaction keeps all that it changes in memory, and in new pages of the file.
// Therefore a large change takes several.
func (t *Table[V]) write(names map[string]struct{}) error {
	const batch = 2000                        // records of one transaction
	sorted := slices.Sorted(maps.Keys(names)) // writing in the order of the file is cheaper
	for part := range slices.Chunk(sorted, batch) {
		err := t.db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(t.o.Bucket))
			if err != nil {
				return err
			}
			for _, name := range part {
				if value := t.encoded(name); value != nil {
					err = b.Put([]byte(name), value)
				} else {
					err = b.Delete([]byte(name))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// closeIfReplaced closes a database whose file is no longer in its place, because the file or its directory was removed
// or replaced: what is written to it would be lost. The caller holds t.disk.
func (t *Table[V]) closeIfReplaced() {
	now, err := os.Stat(t.path())
	gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	if t.db != nil && (gone || err == nil && !os.SameFile(now, t.file)) {
		t.o.Log.Warn("state database was removed or replaced; writing it again", "file", t.path())
		_ = catchFaults(t.db.Close)
		t.db = nil
	}
}

// fail closes the database because of a fault, and logs the fault. It renames a corrupt database and does not close it,
// because its locks may still be held. The caller holds t.disk.
func (t *Table[V]) fail(err error) {
	db := t.db
	t.db = nil
	if corrupt(err) {
		aside := t.path() + ".corrupt"
		fault := os.Rename(t.path(), aside)
		if fault == nil {
			t.o.Log.Error("state database is corrupt; renamed it and started again", "file", t.path(), "aside", aside,
				"reason", text.Line(err.Error(), maxText))
			return
		}
		err = fmt.Errorf("%w, and the file cannot be renamed: %w", err, fault)
	} else if db != nil {
		_ = catchFaults(db.Close)
	}
	if t.warned {
		return
	}
	if errors.Is(err, berrors.ErrTimeout) {
		err = errors.New("another process has it open")
	}
	if times, due := t.faults.Due(); due {
		t.warned = true
		t.o.Log.Warn("state database cannot be written; keeping its content in memory", "file", t.path(),
			"times", times, "err", text.Line(err.Error(), maxText))
	}
}

// corrupt reports whether an error is about the content of the file.
func corrupt(err error) bool {
	faults := []error{errCorrupt, berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum}
	return slices.ContainsFunc(faults, func(want error) bool { return errors.Is(err, want) })
}

// catchFaults calls f. bbolt panics over a corrupt database, and a file that became shorter causes a memory fault: both
// are errors here.
func catchFaults(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, p)
		}
	}()
	return f()
}

// Close saves and closes the database for good.
func (t *Table[V]) Close() error {
	t.disk.Lock()
	defer t.disk.Unlock()
	t.sync(retryLockTimeout)
	db := t.db
	t.db, t.closed = nil, true
	if db == nil {
		return nil
	}
	if err := catchFaults(db.Close); err != nil {
		return fmt.Errorf("statedb: %s: %w", t.path(), err)
	}
	return nil
}
