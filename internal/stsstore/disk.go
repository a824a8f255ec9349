package stsstore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/text"
)

const (
	// startLockTimeout is how long the start waits for the lock on the file, retryLockTimeout how long later attempts do.
	startLockTimeout = time.Second
	retryLockTimeout = time.Millisecond
	dirMode          = 0o750
	fileMode         = 0o600
)

var (
	errNotOpen = errors.New("stsstore: no database")
	errCorrupt = errors.New("stsstore: corrupt database")
)

// disk keeps policies in a bbolt database, whose transactions are on disk when they return: a crash at any moment leaves
// it whole. A database that is corrupt is set aside and started again. After any other fault the database is closed, the
// policies are in memory only, and the store tries to open it again.
type disk struct {
	path     string
	log      *slog.Logger
	openFile func(name string, flag int, mode os.FileMode) (*os.File, error) // os.OpenFile except in tests

	mu     sync.Mutex
	db     *bbolt.DB   // nil if it is not open
	file   os.FileInfo // of db
	closed bool
	warned bool // about the present fault
	faults oncelog.Limiter
}

func newDisk(dir string, log *slog.Logger) *disk {
	return &disk{path: filepath.Join(dir, "mtasts.db"), log: log, openFile: os.OpenFile}
}

// bucket returns the name of the only bucket, which maps domains to what entry.encode returns.
func bucket() []byte { return []byte("policies-1") }

func (d *disk) isOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.db != nil
}

// use reads or writes a bucket in a transaction. It must not keep what it reads.
type use func(*bbolt.Bucket) error

// open opens the database and calls read and then write, if it is not open. A file that can only be read is read and
// closed again: its policies still hold.
func (d *disk) open(lockTimeout time.Duration, read, write use) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.db != nil {
		return
	}
	try := func() error {
		return d.openLocked(&bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType}, read, write)
	}
	err := try()
	if corrupt(err) {
		d.setAside(err)
		err = try()
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		_ = d.openLocked(&bbolt.Options{Timeout: lockTimeout, ReadOnly: true}, read, nil) // err is the fault to report
	}
	if err != nil {
		d.fail(err)
		return
	}
	if d.warned {
		d.log.Info("MTA-STS policies can be written to disk again", "file", d.path)
		d.warned = false
	}
}

// openLocked opens the file, reads and writes. Unless all of that succeeds, and with o.ReadOnly, it closes the file again.
func (d *disk) openLocked(o *bbolt.Options, read, write use) error {
	if !o.ReadOnly {
		if err := os.MkdirAll(filepath.Dir(d.path), dirMode); err != nil {
			return err
		}
	}
	o.OpenFile = d.openFile
	var db *bbolt.DB
	err := guarded(func() (err error) {
		if db, err = bbolt.Open(d.path, fileMode, o); err != nil {
			return err
		}
		d.file, _ = os.Stat(d.path) // nil does not equal any file, which replaced notices
		if err := db.View(func(tx *bbolt.Tx) error { return inBucket(tx, read) }); err != nil || o.ReadOnly {
			return err
		}
		return db.Update(func(tx *bbolt.Tx) error { return inBucket(tx, write) })
	})
	if err == nil && !o.ReadOnly {
		d.db = db
		return nil
	}
	if db != nil && !errors.Is(err, errCorrupt) { // the locks of a corrupt database may still be held
		_ = guarded(db.Close)
	}
	return err
}

func inBucket(tx *bbolt.Tx, f use) error {
	b := tx.Bucket(bucket())
	if b == nil && tx.Writable() {
		var err error
		if b, err = tx.CreateBucket(bucket()); err != nil {
			return err
		}
	}
	if b == nil {
		return nil
	}
	return f(b)
}

// update calls write in a transaction. After a fault the database is not open any more.
func (d *disk) update(write use) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.db == nil {
		return
	}
	if err := guarded(func() error { return d.db.Update(func(tx *bbolt.Tx) error { return inBucket(tx, write) }) }); err != nil {
		d.fail(err)
	}
}

// closeIfReplaced closes a database whose file is no longer in its place, because the file or its directory was removed or
// replaced: what is written to it would be lost.
func (d *disk) closeIfReplaced() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.db == nil {
		return
	}
	now, err := os.Stat(d.path)
	if err == nil && !os.SameFile(now, d.file) {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		d.log.Warn("MTA-STS database was removed or replaced; writing the policies again", "file", d.path)
		_ = guarded(d.db.Close)
		d.db = nil
	}
}

// fail closes the database because of a fault, and logs it. The caller holds d.mu.
func (d *disk) fail(err error) {
	switch db := d.db; {
	case db == nil:
	case corrupt(err):
		d.setAside(err)
	default:
		_ = guarded(db.Close)
	}
	d.db = nil
	if d.warned {
		return
	}
	if errors.Is(err, berrors.ErrTimeout) {
		err = errors.New("another process has it open")
	}
	if times, due := d.faults.Due(); due {
		d.warned = true
		d.log.Warn("MTA-STS policies cannot be written to disk; keeping them in memory", "file", d.path, "times", times,
			"err", text.Line(err.Error(), maxText))
	}
}

// corrupt reports whether an error is about the content of the file.
func corrupt(err error) bool {
	for _, want := range []error{errCorrupt, berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// setAside renames a corrupt file.
func (d *disk) setAside(cause error) {
	aside := d.path + ".corrupt"
	if err := os.Rename(d.path, aside); err != nil {
		d.log.Error("MTA-STS database is corrupt and cannot be renamed", "file", d.path, "reason", text.Line(cause.Error(), maxText),
			"err", text.Line(err.Error(), maxText))
		return
	}
	d.log.Error("MTA-STS database is corrupt; renamed it and started again", "file", d.path, "aside", aside,
		"reason", text.Line(cause.Error(), maxText))
}

// guarded calls f. bbolt panics over a corrupt database, and a file that became shorter causes a memory fault: both are
// errors here.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, p)
			if _, internal := p.(runtime.Error); internal { // its text is about the program and not about the file
				err = errCorrupt
			}
		}
	}()
	return f()
}

// close closes the database for good.
func (d *disk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	db := d.db
	d.db, d.closed = nil, true
	if db == nil {
		return nil
	}
	if err := guarded(db.Close); err != nil {
		return fmt.Errorf("stsstore: %s: %w", d.path, err)
	}
	return nil
}
