// Package statedb keeps records across restarts in a bbolt database, and copes with whatever happens to the file: it
// can be corrupt, read-only, on a full disk, removed or replaced at any moment. The owner keeps all records in memory;
// the file only has to be right when the next process starts.
package statedb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/text"
)

const (
	// startLockTimeout is how long the start waits for the lock on the file, and retryLockTimeout how long later
	// attempts do.
	startLockTimeout = time.Second
	retryLockTimeout = time.Millisecond
	// syncInterval is how often Run looks whether the file is still in its place, or can be opened again.
	syncInterval = 2 * time.Second
	// pause is the least time between two writes of Run, so a crash can cost the changes of that time: one write after
	// the other took a tenth of the processor time of cold lookups.
	pause = 200 * time.Millisecond

	dirMode  = 0o750
	fileMode = 0o600
	// maxText bounds the text of an error in a log line.
	maxText = 1000
)

var errCorrupt = errors.New("statedb: corrupt database")

// File is a bbolt database whose one bucket has the records of its owner. Transactions are on disk when they return: a
// crash at any moment leaves it whole. A database that is corrupt is set aside and started again. After any other fault
// the database is closed; Run, or Sync every few seconds, opens it again. A File without a directory keeps nothing.
type File struct {
	o    Options
	wake chan struct{} // a token where names were marked

	mu     sync.Mutex
	db     *bbolt.DB   // nil if it is not open
	file   os.FileInfo // of db
	loaded bool        // the records on disk were read
	closed bool        // for good
	warned bool        // about the present fault
	faults oncelog.Limiter

	marking sync.Mutex // guards marked; never held while waiting for the disk or the owner
	marked  map[string]struct{}
}

// Options of a File. All fields are required except OpenFile. Names, Encode and Load are called with the database
// locked.
type Options struct {
	Dir    string                   // the state directory, which is created if necessary; "" keeps nothing
	Name   string                   // the name of the file
	Bucket string                   // the name of the bucket: change it when the encoding of the records changes
	Names  func() []string          // returns the names of all records that are in memory
	Encode func(name string) []byte // returns a record as it is now, nil if there is none
	// Load takes over a record from the disk. It returns false if the record must not stay there as it is: it cannot be
	// decoded, there is a newer one, or there is no room for it.
	Load func(name string, value []byte) bool
	Log  *slog.Logger

	OpenFile func(name string, flag int, mode os.FileMode) (*os.File, error) // replaces os.OpenFile in tests
}

// New returns a File that is not open yet.
func New(o Options) *File {
	return &File{o: o, closed: o.Dir == "", marked: map[string]struct{}{}, wake: make(chan struct{}, 1)}
}

func (d *File) path() string { return filepath.Join(d.o.Dir, d.o.Name) }

// IsOpen reports whether the database is open, so that what is saved reaches the disk.
func (d *File) IsOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.db != nil
}

// Open opens the database at the start of the owner and reads what survived the restart.
func (d *File) Open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open(startLockTimeout)
}

// Mark notes that records have changed, or were removed, so that Run, or the next Save, writes or deletes them. It
// never waits.
func (d *File) Mark(names ...string) {
	if d.o.Dir == "" {
		return
	}
	d.marking.Lock()
	for _, name := range names {
		d.marked[name] = struct{}{}
	}
	d.marking.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run writes what is marked until ctx ends. A change after an idle time is written immediately; changes that arrive
// during a write and the pause after it go together into the next one.
func (d *File) Run(ctx context.Context) error {
	tick := time.NewTicker(syncInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			d.Sync()
		case <-d.wake:
			d.Save()
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// take returns the marked names and unmarks them.
func (d *File) take() (names map[string]struct{}) {
	d.marking.Lock()
	defer d.marking.Unlock()
	names, d.marked = d.marked, map[string]struct{}{}
	return names
}

// Save writes the marked records, if the database is open. After a fault it is not open any more, and everything is
// written when it is opened again.
func (d *File) Save() {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.take()
	if d.db == nil || len(names) == 0 {
		return
	}
	if err := guarded(func() error { return d.write(d.db, names) }); err != nil {
		d.fail(err)
	}
}

// Sync opens the database if it is not open, and again if its file was removed or replaced, and saves.
func (d *File) Sync() {
	d.mu.Lock()
	d.closeIfReplaced()
	d.open(retryLockTimeout)
	d.mu.Unlock()
	d.Save()
}

// open opens the database if it is not open. A file that can only be read is read and closed again. A fault is logged,
// once per minute at most; d.db is then nil. The caller holds d.mu.
func (d *File) open(lockTimeout time.Duration) {
	if d.closed || d.db != nil {
		return
	}
	try := func(readOnly bool) error {
		return d.openOnce(&bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, ReadOnly: readOnly})
	}
	err := try(false)
	if corrupt(err) {
		d.setAside(err)
		err = try(false)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		_ = try(true) // err is the fault to report
	}
	if err != nil {
		d.fail(err)
		return
	}
	if d.warned {
		d.o.Log.Info("state database can be written again", "file", d.path())
		d.warned = false
	}
}

// openOnce opens the file and makes it agree with the records in memory. Unless all of that succeeds, and with
// o.ReadOnly, it closes the file again.
func (d *File) openOnce(o *bbolt.Options) error {
	if !o.ReadOnly {
		if err := os.MkdirAll(d.o.Dir, dirMode); err != nil {
			return err
		}
	}
	o.OpenFile = d.o.OpenFile
	var db *bbolt.DB
	err := guarded(func() (err error) {
		db, err = bbolt.Open(d.path(), fileMode, o)
		if err != nil && strings.HasPrefix(err.Error(), "file size too small") { // bbolt does not export this error
			err = fmt.Errorf("%w: %w", errCorrupt, err)
		}
		if err != nil {
			return err
		}
		d.file, _ = os.Stat(d.path()) // nil does not equal any file, which closeIfReplaced notices
		d.Mark(d.o.Names()...)
		if err := db.View(d.read); err != nil || o.ReadOnly {
			return err
		}
		return d.write(db, d.take())
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

// read hands the records on disk to the owner, the first time that it succeeds. Later, after a fault, memory is newer.
func (d *File) read(tx *bbolt.Tx) error {
	if b := tx.Bucket([]byte(d.o.Bucket)); b != nil {
		err := b.ForEach(func(k, v []byte) error {
			if name := string(k); d.loaded || !d.o.Load(name, v) {
				d.Mark(name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	d.loaded = true
	return nil
}

// write makes the disk agree with some records. It encodes them within a transaction, so the last change in memory is
// the last on disk. A transaction keeps all that it changes in memory, and in new pages of the file. Therefore a large
// change takes several.
func (d *File) write(db *bbolt.DB, names map[string]struct{}) error {
	const most = 2000                         // records of one transaction
	sorted := slices.Sorted(maps.Keys(names)) // in the order of the file, which is cheaper
	for part := range slices.Chunk(sorted, most) {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(d.o.Bucket))
			if err != nil {
				return err
			}
			for _, name := range part {
				if value := d.o.Encode(name); value != nil {
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
// or replaced: what is written to it would be lost. The caller holds d.mu.
func (d *File) closeIfReplaced() {
	if d.db == nil {
		return
	}
	now, err := os.Stat(d.path())
	if err == nil && !os.SameFile(now, d.file) {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		d.o.Log.Warn("state database was removed or replaced; writing it again", "file", d.path())
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
		d.o.Log.Warn("state database cannot be written; keeping its content in memory", "file", d.path(),
			"times", times, "err", text.Line(err.Error(), maxText))
	}
}

// corrupt reports whether an error is about the content of the file.
func corrupt(err error) bool {
	faults := []error{errCorrupt, berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum}
	return slices.ContainsFunc(faults, func(want error) bool { return errors.Is(err, want) })
}

// setAside renames a corrupt file.
func (d *File) setAside(cause error) {
	aside, reason := d.path()+".corrupt", text.Line(cause.Error(), maxText)
	if err := os.Rename(d.path(), aside); err != nil {
		d.o.Log.Error("state database is corrupt and cannot be renamed", "file", d.path(), "reason", reason,
			"err", text.Line(err.Error(), maxText))
		return
	}
	d.o.Log.Error("state database is corrupt; renamed it and started again", "file", d.path(), "aside", aside,
		"reason", reason)
}

// guarded calls f. bbolt panics over a corrupt database, and a file that became shorter causes a memory fault: both are
// errors here.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, p)
		}
	}()
	return f()
}

// Close saves and closes the database for good.
func (d *File) Close() error {
	d.Sync()
	d.mu.Lock()
	defer d.mu.Unlock()
	db := d.db
	d.db, d.closed = nil, true
	if db == nil {
		return nil
	}
	if err := guarded(db.Close); err != nil {
		return fmt.Errorf("statedb: %s: %w", d.path(), err)
	}
	return nil
}

// Oldest returns the name of the oldest among a few records, which a map offers in random order: what an owner whose
// memory is full drops. It returns "" if there is no record except keep.
func Oldest[V any](records map[string]V, keep string, age func(V) int64) (oldest string) {
	const sample = 64
	n, least := 0, int64(math.MaxInt64)
	for name, r := range records {
		if at := age(r); name != keep && (oldest == "" || at < least) {
			oldest, least = name, at
		}
		if n++; n == sample {
			break
		}
	}
	return oldest
}
