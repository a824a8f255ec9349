package report

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/statedb"
)

const (
	// MaxNexthops is how many next hops are remembered, each in at most about 700 bytes. The one looked up longest ago
	// of a few goes first.
	MaxNexthops = 20_000
	// keep is how long a next hop is remembered after its last lookup.
	keep = 30 * 24 * time.Hour
	// maxReason bounds the text that is kept per next hop.
	maxReason = 200

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
	disk *statedb.File

	mu      sync.Mutex
	records map[string]*record
	dropped uint64
}

// New returns a store with what is in the state directory. A state directory that cannot be used is logged, and tried
// again while Run runs.
func New(o Options) *Store {
	s := &Store{max: cmp.Or(o.Max, MaxNexthops), records: map[string]*record{}}
	s.disk = statedb.New(statedb.Options{
		Dir: o.StateDir, Name: "report.db", Bucket: "report-2", Log: o.Log,
		Names: s.names, Encode: s.encoded, Load: s.load,
	})
	s.disk.Open()
	return s
}

// Record remembers a lookup. It never waits for the disk. Call again for each further lookup that got the same answer,
// as long as it is known to be right: it takes no lock.
func (s *Store) Record(l Lookup) (again func()) {
	now, waits := time.Now().Unix(), uint32(0)
	l.Reason = l.Reason[:min(len(l.Reason), maxReason)]
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[l.Nexthop]
	if r == nil {
		if len(s.records) >= s.max {
			s.remove(statedb.Oldest(s.records, "", func(r *record) int64 { return r.Seen }))
			s.dropped++
		}
		r = &record{First: now}
		s.records[l.Nexthop] = r
	}
	r.Last, r.Seen = l, now
	if l.Outcome == Wait {
		r.LastWait, r.Reason, waits = now, l.Reason, 1
	}
	r.count(now, 1, waits)
	s.disk.Mark(l.Nexthop)
	if l.Outcome == Wait {
		return func() { s.Record(l) }
	}
	return func() { r.again.Add(1) }
}

func (s *Store) remove(nexthop string) {
	delete(s.records, nexthop)
	s.disk.Mark(nexthop)
}

// Sum sums up the next hops that were looked up since then. The zero time means all.
func (s *Store) Sum(since time.Time) Report {
	s.settle()
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
			s.settle()
			return errors.Join(ctx.Err(), s.disk.Close())
		case <-tick.C:
			s.settle()
			s.disk.Sync()
		}
	}
}

// settle counts the answers that were given again, and forgets next hops that were not looked up for long.
func (s *Store) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for nexthop, r := range s.records {
		if n := r.again.Swap(0); n > 0 {
			r.Seen = now.Unix()
			r.count(r.Seen, n, 0)
			s.disk.Mark(nexthop)
		}
		if r.Seen < now.Add(-keep).Unix() {
			s.remove(nexthop)
		}
	}
}

func (s *Store) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.records))
}

// encoded returns a record in the form in which it is on disk.
func (s *Store) encoded(nexthop string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[nexthop]
	if !ok {
		return nil
	}
	b, _ := json.Marshal(r) // strings and numbers do not fail
	return b
}

// load takes over a record from the disk. A next hop that was looked up since the start keeps its new record.
func (s *Store) load(nexthop string, value []byte) bool {
	r := &record{}
	err := json.Unmarshal(value, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.records[nexthop] != nil || len(s.records) >= s.max {
		return false
	}
	s.records[nexthop] = r
	return true
}
