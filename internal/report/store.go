package report

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/policyd/policyd/internal/statedb"
)

const (
	// MaxNexthops is how many next hops are remembered, each in about 300 bytes. The one looked up longest ago of a few
	// goes first.
	MaxNexthops = 20_000
	// keep is how long a next hop is remembered after its last lookup.
	keep = 30 * 24 * time.Hour
	// maxReason bounds the text that is kept per next hop.
	maxReason = 200
	// sample is how many records are compared when one must go.
	sample = 16

	writeInterval = 5 * time.Second
)

// Options of a Store.
type Options struct {
	// StateDir is where report.db is kept across restarts; "" keeps it in memory only.
	StateDir string
	// Max is the number of next hops; zero means MaxNexthops.
	Max int
	Log *slog.Logger
}

// Store remembers lookups. Make one with New, and Run it so that they survive a restart.
type Store struct {
	max  int
	disk *statedb.File // nil without a state directory

	mu      sync.Mutex
	records map[string]*record
	dirty   map[string]struct{} // to be written or removed on disk
	dropped uint64
	loaded  bool // the disk has been read
}

// New returns a store with what is in the state directory. A state directory that cannot be used is logged, and tried
// again while Run runs.
func New(o Options) *Store {
	s := &Store{max: o.Max, records: map[string]*record{}, dirty: map[string]struct{}{}}
	if s.max <= 0 {
		s.max = MaxNexthops
	}
	if o.StateDir != "" {
		s.disk = statedb.New(statedb.Options{Path: filepath.Join(o.StateDir, "report.db"), Bucket: "report-1", Log: o.Log})
		s.open(statedb.StartLockTimeout)
	}
	return s
}

// Record remembers a lookup. It never waits for the disk.
func (s *Store) Record(l Lookup) {
	now := time.Now().Unix()
	l.Reason = l.Reason[:min(len(l.Reason), maxReason)]
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[l.Nexthop]
	if r == nil {
		if len(s.records) >= s.max {
			s.drop()
		}
		r = &record{First: now}
		s.records[l.Nexthop] = r
	}
	r.Last, r.Seen = l, now
	r.Lookups++
	if l.Outcome == Wait {
		r.Waits, r.LastWait, r.Reason = r.Waits+1, now, l.Reason
	}
	s.dirty[l.Nexthop] = struct{}{}
}

// drop forgets one record to make room; s.mu is held.
func (s *Store) drop() {
	oldest, seen, n := "", int64(0), 0
	for nexthop, r := range s.records { // in random order
		if oldest == "" || r.Seen < seen {
			oldest, seen = nexthop, r.Seen
		}
		if n++; n == sample {
			break
		}
	}
	s.remove(oldest)
	s.dropped++
}

func (s *Store) remove(nexthop string) {
	delete(s.records, nexthop)
	s.dirty[nexthop] = struct{}{}
}

// Sum sums up the next hops that were looked up since then. The zero time means all.
func (s *Store) Sum(since time.Time) Report {
	now := time.Now()
	r := Report{Since: since, Until: now, Waiting: []Waiting{}}
	if since.IsZero() {
		r.Since = now.Add(-keep)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for nexthop, rec := range s.records {
		if first := time.Unix(rec.First, 0); r.Recorded.IsZero() || first.Before(r.Recorded) {
			r.Recorded = first
		}
		r.add(nexthop, rec)
	}
	r.Dropped = s.dropped
	r.sort()
	return r
}

// Run writes changes to the state directory until ctx ends, and what is left then.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(writeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if s.disk == nil {
				return ctx.Err()
			}
			s.save()
			return errors.Join(ctx.Err(), s.disk.Close())
		case <-tick.C:
			s.expire(time.Now().Add(-keep))
			if s.disk != nil {
				s.save()
			}
		}
	}
}

// expire forgets next hops that were not looked up since then.
func (s *Store) expire(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nexthop, r := range s.records {
		if r.Seen < since.Unix() {
			s.remove(nexthop)
		}
	}
}

// save writes what has changed, and opens the database again if it is not open or was replaced.
func (s *Store) save() {
	s.disk.CloseIfReplaced()
	if !s.disk.IsOpen() {
		s.open(statedb.RetryLockTimeout)
		return
	}
	s.disk.Update(s.write)
}

// open opens the database. The first time it reads what survived the restart; then it makes the disk agree with the
// memory.
func (s *Store) open(lockTimeout time.Duration) {
	s.mu.Lock()
	for nexthop := range s.records {
		s.dirty[nexthop] = struct{}{}
	}
	s.mu.Unlock()
	s.disk.Open(lockTimeout, s.read, s.write)
}

// read loads the records from disk. A record is removed or written again if it cannot be decoded, if there are too many,
// or if its next hop was looked up since the start.
// It waits for the disk without the lock, which lookups need.
func (s *Store) read(b *bbolt.Bucket) error {
	found := map[string]*record{} // nil: it cannot be decoded
	err := b.ForEach(func(k, v []byte) error {
		r := &record{}
		if bad := json.Unmarshal(v, r); bad != nil {
			r = nil
		}
		found[string(k)] = r
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for nexthop, r := range found {
		if r == nil || s.records[nexthop] != nil || s.loaded || len(s.records) >= s.max {
			s.dirty[nexthop] = struct{}{}
		} else {
			s.records[nexthop] = r
		}
	}
	s.loaded = s.loaded || err == nil
	return err
}

// write makes the disk agree with the memory about the next hops that have changed.
func (s *Store) write(b *bbolt.Bucket) error {
	for nexthop, value := range s.changes() {
		err := error(nil)
		if value == nil {
			err = b.Delete([]byte(nexthop))
		} else {
			err = b.Put([]byte(nexthop), value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changes returns the encoded records that have changed since the last call, nil for one that was removed.
func (s *Store) changes() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := make(map[string][]byte, len(s.dirty))
	for nexthop := range s.dirty {
		changes[nexthop] = nil
		if r, ok := s.records[nexthop]; ok {
			changes[nexthop], _ = json.Marshal(r) // strings and numbers do not fail
		}
	}
	clear(s.dirty)
	return changes
}
