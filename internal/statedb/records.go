// Package statedb keeps tables of records in memory, and across restarts in bbolt databases. It copes with whatever
// happens to a file: it can be corrupt, read-only, on a full disk, removed or replaced at any moment. Memory has all
// records; the file only has to be right when the next process starts.
package statedb

import (
	"iter"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/policyd/policyd/internal/oncelog"
)

// Table is a bounded number of records with names. Its lock guards them, and all that belongs to them; no method that
// waits for the disk may be called with it held. A record that changes in another way than by Put must be marked.
//
// Transactions are on disk when they return: a crash at any moment leaves the database whole. A database that is
// corrupt is set aside and started again. After any other fault it is closed; Run, or Sync every few seconds, opens it
// again. A Table without a directory keeps its records in memory only.
type Table[V any] struct {
	sync.RWMutex
	Records map[string]V // only Put and Delete store and remove
	weight  int          // the total weight of all records
	changes atomic.Uint64

	o    Options[V]
	wake chan struct{} // holds a token if names were marked

	disk   sync.Mutex  // guards what follows
	db     *bbolt.DB   // nil if it is not open
	file   os.FileInfo // the file of db
	loaded bool        // the records on disk were read
	closed bool        // closed permanently
	warned bool        // the present fault has been logged
	faults oncelog.Limiter

	marking sync.Mutex // guards marked; never held while waiting for the disk or the lock of the records
	marked  map[string]struct{}
}

// Options of a Table. All fields are required except Weight and OpenFile; without a Dir, only Max and LastUse are
// required. The functions are called with the table locked, and must not call it.
type Options[V any] struct {
	Dir    string // the state directory, which is created if necessary; "" keeps nothing
	Name   string // the name of the file
	Bucket string // the name of the bucket: change it when the encoding of the records changes
	// Max bounds the total weight of the records; each weighs 1 if Weight is nil. Above it, the least recently used
	// records are removed, in roughly that order: LastUse returns a time in any unit.
	Max     int
	Weight  func(V) int
	LastUse func(V) int64
	Encode  func(V) []byte // returns a record as it is on disk, nil if it need not be there
	// Decode reads what Encode wrote. It trusts the disk no more than a remote party: what it refuses is removed.
	Decode func(name string, value []byte) (V, error)
	Log    *slog.Logger

	OpenFile func(name string, flag int, mode os.FileMode) (*os.File, error) // replaces os.OpenFile in tests
}

// New returns a table with the records that survived the restart. If the state directory cannot be used, New logs that,
// and Run tries it again.
func New[V any](o Options[V]) *Table[V] {
	if o.Weight == nil {
		o.Weight = func(V) int { return 1 }
	}
	t := &Table[V]{
		o: o, Records: map[string]V{}, closed: o.Dir == "", marked: map[string]struct{}{}, wake: make(chan struct{}, 1),
	}
	t.disk.Lock()
	defer t.disk.Unlock()
	t.sync(startLockTimeout)
	return t
}

// Get returns the record of a name, the zero value if there is none. It locks the table.
func (t *Table[V]) Get(name string) V {
	t.RLock()
	defer t.RUnlock()
	return t.Records[name]
}

// All yields all records, in no order, with the table locked.
func (t *Table[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		t.RLock()
		defer t.RUnlock()
		maps.All(t.Records)(yield)
	}
}

// Names returns the names of all records, in no order. It locks the table.
func (t *Table[V]) Names() []string {
	t.RLock()
	defer t.RUnlock()
	return slices.Collect(maps.Keys(t.Records))
}

// Put stores a record, and returns how many others it removed to make room. The caller holds the lock.
func (t *Table[V]) Put(name string, v V) (removed uint64) {
	t.Mark(name)
	return t.add(name, v)
}

func (t *Table[V]) add(name string, v V) (removed uint64) {
	t.Delete(name)
	weight := t.o.Weight(v)
	for t.weight+weight > t.o.Max && len(t.Records) > 0 {
		t.Delete(t.leastRecentlyUsed())
		removed++
	}
	t.Records[name] = v
	t.weight += weight
	t.changes.Add(1)
	return removed
}

// Delete removes a record, and reports whether there was one. The caller holds the lock.
func (t *Table[V]) Delete(name string) bool {
	v, known := t.Records[name]
	if known {
		t.Mark(name)
		delete(t.Records, name)
		t.weight -= t.o.Weight(v)
		t.changes.Add(1)
	}
	return known
}

// Forget is Delete for a caller that does not hold the lock.
func (t *Table[V]) Forget(name string) bool {
	t.Lock()
	defer t.Unlock()
	return t.Delete(name)
}

// Changes returns a number that changes whenever a record is stored or removed.
func (t *Table[V]) Changes() uint64 { return t.changes.Load() }

// encoded returns a record as it is on disk, nil if there is none.
func (t *Table[V]) encoded(name string) []byte {
	t.RLock()
	defer t.RUnlock()
	if v, known := t.Records[name]; known {
		return t.o.Encode(v)
	}
	return nil
}

// load takes over a record from the disk. It returns false if the record must not stay there as it is: it cannot be
// decoded, or there is a newer one.
func (t *Table[V]) load(name string, value []byte) bool {
	t.Lock()
	defer t.Unlock()
	v, err := t.o.Decode(name, value)
	if _, known := t.Records[name]; known || err != nil {
		return false
	}
	t.add(name, v)
	return true
}

// leastRecentlyUsed returns the name of the least recently used of a few records, which a map offers in random order.
func (t *Table[V]) leastRecentlyUsed() (found string) {
	sample, earliest := 64, int64(math.MaxInt64)
	for name, v := range t.Records {
		if used := t.o.LastUse(v); used <= earliest {
			found, earliest = name, used
		}
		sample--
		if sample == 0 {
			break
		}
	}
	return found
}
