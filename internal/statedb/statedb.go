// Package statedb keeps state across restarts in a bbolt database, and copes with whatever happens to the file: it can be
// corrupt, read-only, on a full disk, removed or replaced at any moment. The owner keeps everything in memory; the file only
// has to be right when the next process starts.
package statedb

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
	// StartLockTimeout is how long the start should wait for the lock on the file.
	StartLockTimeout = time.Second
	// RetryLockTimeout is how long later attempts should wait.
	RetryLockTimeout = time.Millisecond

	dirMode  = 0o750
	fileMode = 0o600
	// maxText bounds the text of an error in a log line.
	maxText = 1000
)

var errCorrupt = errors.New("statedb: corrupt database")

// File is a bbolt database with one bucket, whose transactions are on disk when they return: a crash at any moment leaves
// it whole. A database that is corrupt is set aside and started again. After any other fault the database is closed, and
// the owner should try to open it again every few seconds.
type File struct {
	path     string
	bucket   []byte
	log      *slog.Logger
	openFile OpenFile

	mu     sync.Mutex
	db     *bbolt.DB   // nil if it is not open
	file   os.FileInfo // of db
	closed bool
	warned bool // about the present fault
	faults *oncelog.Limiter
}

// OpenFile opens a file like os.OpenFile.
type OpenFile func(name string, flag int, mode os.FileMode) (*os.File, error)

// Options of a File. All fields are required except OpenFile.
type Options struct {
	// Path is the file, whose directory is created if necessary.
	Path string
	// Bucket is the name of the bucket. Change it when the encoding of the values changes.
	Bucket string
	Log    *slog.Logger
	// OpenFile replaces os.OpenFile in tests.
	OpenFile OpenFile
	// Faults limits the warnings; files in the same directory share it, so that one fault is one warning. nil limits those of
	// this file.
	Faults *oncelog.Limiter
}

// New returns a File that is not open yet.
func New(o Options) *File {
	if o.OpenFile == nil {
		o.OpenFile = os.OpenFile
	}
	if o.Faults == nil {
		o.Faults = &oncelog.Limiter{}
	}
	return &File{path: o.Path, bucket: []byte(o.Bucket), log: o.Log, openFile: o.OpenFile, faults: o.Faults}
}

// IsOpen reports whether the database is open, so that an Update reaches the disk.
func (d *File) IsOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.db != nil
}

// Use reads or writes a bucket in a transaction. It must not keep what it reads.
type Use func(*bbolt.Bucket) error

// Open opens the database and calls read and then write, if it is not open. A file that can only be read is read and
// closed again. A fault is logged, once per minute at most; IsOpen is then false.
func (d *File) Open(lockTimeout time.Duration, read, write Use) {
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
		d.log.Info("state database can be written again", "file", d.path)
		d.warned = false
	}
}

// openLocked opens the file, reads and writes. Unless all of that succeeds, and with o.ReadOnly, it closes the file again.
func (d *File) openLocked(o *bbolt.Options, read, write Use) error {
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
		d.file, _ = os.Stat(d.path) // nil does not equal any file, which CloseIfReplaced notices
		if err := db.View(func(tx *bbolt.Tx) error { return d.inBucket(tx, read) }); err != nil || o.ReadOnly {
			return err
		}
		return db.Update(func(tx *bbolt.Tx) error { return d.inBucket(tx, write) })
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

func (d *File) inBucket(tx *bbolt.Tx, f Use) error {
	b := tx.Bucket(d.bucket)
	if b == nil && tx.Writable() {
		var err error
		if b, err = tx.CreateBucket(d.bucket); err != nil {
			return err
		}
	}
	if b == nil {
		return nil
	}
	return f(b)
}

// Update calls write in a transaction, if the database is open. After a fault it is not open any more.
func (d *File) Update(write Use) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.db == nil {
		return
	}
	if err := guarded(func() error { return d.db.Update(func(tx *bbolt.Tx) error { return d.inBucket(tx, write) }) }); err != nil {
		d.fail(err)
	}
}

// CloseIfReplaced closes a database whose file is no longer in its place, because the file or its directory was removed or
// replaced: what is written to it would be lost.
func (d *File) CloseIfReplaced() {
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
		d.log.Warn("state database was removed or replaced; writing it again", "file", d.path)
		_ = guarded(d.db.Close)
		d.db = nil
	}
}

// fail closes the database because of a fault, and logs it. The caller holds d.mu.
func (d *File) fail(err error) {
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
		d.log.Warn("state database cannot be written; keeping its content in memory", "file", d.path, "times", times,
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
func (d *File) setAside(cause error) {
	aside := d.path + ".corrupt"
	if err := os.Rename(d.path, aside); err != nil {
		d.log.Error("state database is corrupt and cannot be renamed", "file", d.path, "reason", text.Line(cause.Error(), maxText),
			"err", text.Line(err.Error(), maxText))
		return
	}
	d.log.Error("state database is corrupt; renamed it and started again", "file", d.path, "aside", aside,
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

// Close closes the database for good.
func (d *File) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	db := d.db
	d.db, d.closed = nil, true
	if db == nil {
		return nil
	}
	if err := guarded(db.Close); err != nil {
		return fmt.Errorf("statedb: %s: %w", d.path, err)
	}
	return nil
}

// Break makes the next use of an open database fail, for tests of its owner.
func (d *File) Break() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.db.Close()
}
