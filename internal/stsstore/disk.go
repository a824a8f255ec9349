package stsstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/text"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// startPatience is how long the start waits for the lock on the file; later it is tried once, again and again.
	startPatience = time.Second
	laterPatience = time.Millisecond
	// maxRuined is how many files may turn out corrupt before the disk is given up.
	maxRuined = 3
	// quiet is how long nothing must fail until all is said to be well.
	quiet    = 10 * time.Minute
	dirMode  = 0o750
	fileMode = 0o600
)

var (
	errNoDisk  = errors.New("mtasts: there is no database")
	errCorrupt = errors.New("mtasts: the database is corrupt")
)

// disk keeps policies in a bbolt database, whose transactions are on disk when they return: a crash at any moment
// leaves it whole. Whatever goes wrong with it, policies are kept in memory, with one warning.
type disk struct {
	path string
	log  *slog.Logger

	writing sync.Mutex // held by the one writer, taken before mu
	mu      sync.RWMutex
	db      *bbolt.DB   // nil: there is none
	file    os.FileInfo // of db
	frozen  bool        // db may only be read
	ruined  int
	closed  bool

	troubled bool      // there was a warning, and its cause may not be over
	failed   time.Time // when something failed last

	replaced atomic.Bool // the file is new, and what is in memory must be written again
}

func newDisk(dir string, log *slog.Logger) *disk {
	return &disk{path: filepath.Join(dir, "mtasts.db"), log: log}
}

// bucket returns the name of the one bucket: domains and what entry.encode makes.
func bucket() []byte { return []byte("policies-1") }

// open opens the database if it is not, or again if it may only be read and that is over. It reports whether it did.
func (d *disk) open(patience time.Duration) bool {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	if d.closed || d.ruined >= maxRuined || d.db != nil && !d.thaws() {
		d.mu.Unlock()
		return false
	}
	err := d.openLocked(patience)
	opened := d.db != nil
	d.failed = time.Time{} // what has failed was for want of this
	d.mu.Unlock()
	if err != nil {
		d.trouble(err)
	}
	return opened
}

// thaws closes a database that may only be read if it can be written now; d.writing and d.mu are held.
func (d *disk) thaws() bool {
	if !d.frozen {
		return false
	}
	file, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = file.Close()
	_ = guarded(d.db.Close)
	d.db = nil
	return true
}

// openLocked opens the database; d.mu is held. With an error it may still be open for reading.
func (d *disk) openLocked(patience time.Duration) error {
	db, err := openFile(d.path, &bbolt.Options{Timeout: patience, FreelistType: bbolt.FreelistMapType})
	if err != nil && corrupt(err) {
		d.setAside(err)
		db, err = openFile(d.path, &bbolt.Options{Timeout: patience, FreelistType: bbolt.FreelistMapType})
	}
	d.frozen = false
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		// What cannot be written can still be read: the policies in there hold.
		if read, e := openFile(d.path, &bbolt.Options{Timeout: patience, ReadOnly: true}); e == nil {
			db, d.frozen = read, true
		}
	}
	if d.db = db; db != nil {
		d.file, _ = os.Stat(d.path) // nil is no file, and noticed
	}
	return err
}

func openFile(path string, o *bbolt.Options) (db *bbolt.DB, err error) {
	if !o.ReadOnly {
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			return nil, err
		}
	}
	err = guarded(func() error {
		if db, err = bbolt.Open(path, fileMode, o); err != nil || o.ReadOnly {
			return err
		}
		return db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(bucket())
			return err
		})
	})
	switch {
	case err == nil:
		return db, nil
	case db != nil && !errors.Is(err, errCorrupt):
		_ = db.Close() // it was opened and could not be written: the error says so
	}
	return nil, err
}

// corrupt says that an error of opening is about what is in the file.
func corrupt(err error) bool {
	var system syscall.Errno
	return !errors.As(err, &system) && !errors.Is(err, berrors.ErrTimeout) && !errors.Is(err, fs.ErrPermission)
}

// guarded calls f. A corrupt database shows as a panic, or as a fault where the file is shorter than it was:
// both are errors here.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, p)
			if _, slip := p.(runtime.Error); slip { // its words are about the program and not about the file
				err = errCorrupt
			}
		}
	}()
	return f()
}

// setAside renames a corrupt file; d.mu is held.
func (d *disk) setAside(cause error) {
	d.ruined++
	aside := d.path + ".corrupt"
	if err := os.Rename(d.path, aside); err != nil {
		d.log.Error("the MTA-STS database is corrupt and cannot be moved aside", "file", d.path, "reason", text.Line(cause.Error(), maxText), "err", text.Line(err.Error(), maxText))
		return
	}
	d.log.Error("the MTA-STS database is corrupt and was moved aside: the policies in it are lost", "file", d.path, "aside", aside, "reason", text.Line(cause.Error(), maxText))
}

// use calls f with the database.
func (d *disk) use(f func(db *bbolt.DB) error) error {
	d.mu.RLock()
	db := d.db
	if db == nil {
		d.mu.RUnlock()
		return errNoDisk
	}
	err := guarded(func() error { return f(db) })
	d.mu.RUnlock()
	if errors.Is(err, errCorrupt) {
		d.abandon(db, err)
	}
	return err
}

// abandon replaces a database that turned out corrupt. It is not closed: its locks may be held by what panicked.
func (d *disk) abandon(db *bbolt.DB, cause error) {
	d.mu.Lock()
	if d.db != db {
		d.mu.Unlock()
		return // another was quicker
	}
	d.db = nil
	d.setAside(cause)
	var err error
	if !d.closed && d.ruined < maxRuined {
		err = d.openLocked(laterPatience)
		d.replaced.Store(err == nil)
	}
	d.mu.Unlock()
	if err != nil {
		d.trouble(err)
	}
}

// read returns a copy of what is stored for a domain, nil for nothing.
func (d *disk) read(domain string) (value []byte, err error) {
	err = d.use(func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			if b := tx.Bucket(bucket()); b != nil {
				value = bytes.Clone(b.Get([]byte(domain)))
			}
			return nil
		})
	})
	return value, err
}

// item is what is stored for a domain.
type item struct {
	domain string
	value  []byte
}

// page returns copies of some items after a domain in the order of domains, none at the end.
func (d *disk) page(after string) (items []item, err error) {
	const most = 512
	err = d.use(func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket())
			if b == nil {
				return nil
			}
			c := b.Cursor()
			k, v := c.Seek([]byte(after))
			if k != nil && string(k) == after {
				k, v = c.Next()
			}
			for ; k != nil && len(items) < most; k, v = c.Next() {
				items = append(items, item{string(k), bytes.Clone(v)})
			}
			return nil
		})
	})
	return items, err
}

// update has f write, and says so if that does not work.
func (d *disk) update(f func(*bbolt.Bucket) error) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	err := d.use(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket())
			if err != nil {
				return err
			}
			return f(b)
		})
	})
	if err != nil {
		d.trouble(err)
	}
	return err
}

// settle is called when everything is on disk. A disk that is full takes a little now and then: trouble is over
// only when there was none for a while.
func (d *disk) settle(now time.Time) {
	d.mu.Lock()
	over := d.troubled && now.Sub(d.failed) > quiet
	d.troubled = d.troubled && !over
	d.mu.Unlock()
	if over {
		d.log.Info("MTA-STS policies can be written to disk again", "file", d.path)
	}
}

// trouble warns that policies are in memory only, once until it is over.
func (d *disk) trouble(err error) {
	d.mu.Lock()
	again := d.troubled || errors.Is(err, errNoDisk)
	d.troubled, d.failed = true, time.Now()
	d.mu.Unlock()
	if again {
		return
	}
	if errors.Is(err, berrors.ErrTimeout) {
		err = errors.New("another process has it open")
	}
	d.log.Warn("MTA-STS policies cannot be written to disk: new ones will not survive a restart", "file", d.path, "err", text.Line(err.Error(), maxText))
}

// writable says that it is worth trying to write.
func (d *disk) writable() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.db != nil && !d.frozen
}

// close closes the database. It is not opened again.
func (d *disk) close() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	db := d.db
	d.db = nil
	if db == nil {
		return nil
	}
	if err := guarded(db.Close); err != nil {
		return fmt.Errorf("mtasts: %s: %w", d.path, err)
	}
	return nil
}
