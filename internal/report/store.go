package report

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/policyd/policyd/internal/statedb"
)

const (
	// MaxNexthops is how many next hops are remembered, each in at most about 700 bytes. To make room, the one looked
	// up longest ago of a few is forgotten.
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
	table   *statedb.Table[*record]
	dropped uint64 // guarded by the lock of table
}

// New returns a store with the content of the state directory. If the directory cannot be used, New logs that, and Run
// tries again.
func New(o Options) *Store {
	return &Store{table: statedb.New(statedb.Options[*record]{
		Dir: o.StateDir, Name: "report.db", Bucket: "report-2", Log: o.Log,
		Max: cmp.Or(o.Max, MaxNexthops), LastUse: func(r *record) int64 { return r.Seen },
		Encode: func(r *record) []byte {
			b, _ := json.Marshal(r) // strings and numbers do not fail
			return b
		},
		Decode: func(_ string, value []byte) (*record, error) {
			r := &record{}
			return r, json.Unmarshal(value, r)
		},
	})}
}

// Record remembers a lookup. It never waits for the disk. Call repeated for each further lookup that gets the same
// answer while that answer is known to be valid. It takes no lock unless mail waits.
func (s *Store) Record(l Lookup) (repeated func()) {
	now := time.Now().Unix()
	l.Reason = l.Reason[:min(len(l.Reason), maxReason)]
	s.table.Lock()
	defer s.table.Unlock()
	r := s.table.Records[l.Nexthop]
	if r == nil {
		r = &record{First: now}
		s.dropped += s.table.Put(l.Nexthop, r)
	}
	r.Last, r.Seen = l, now
	s.table.Mark(l.Nexthop)
	if l.Outcome == Wait {
		r.LastWait, r.Reason = now, l.Reason
		r.count(now, 1, 1)
		return func() { s.Record(l) }
	}
	r.count(now, 1, 0)
	return func() { r.repeated.Add(1) }
}

// Sum sums up the next hops that were looked up since then. The zero time means all.
func (s *Store) Sum(since time.Time) Report {
	s.settle()
	now := time.Now()
	r := Report{Since: since, Until: now, Waiting: []Waiting{}}
	if since.IsZero() {
		r.Since = now.Add(-keep)
	}
	s.table.RLock()
	defer s.table.RUnlock()
	for nexthop, rec := range s.table.Records {
		if first := time.Unix(rec.First, 0); r.Recorded.IsZero() || first.Before(r.Recorded) {
			r.Recorded = first
		}
		r.add(nexthop, rec)
	}
	r.Dropped = s.dropped
	r.sort()
	return r
}

// Run writes changes to the state directory until ctx ends, and then the remaining ones.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(writeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.settle()
			return errors.Join(ctx.Err(), s.table.Close())
		case <-tick.C:
			s.settle()
			s.table.Sync()
		}
	}
}

// settle counts the answers that were repeated, and forgets next hops that were not looked up for long.
func (s *Store) settle() {
	s.table.Lock()
	defer s.table.Unlock()
	now := time.Now()
	for nexthop, r := range s.table.Records {
		if n := r.repeated.Swap(0); n > 0 {
			r.Seen = now.Unix()
			r.count(r.Seen, n, 0)
			s.table.Mark(nexthop)
		}
		if r.Seen < now.Add(-keep).Unix() {
			s.table.Delete(nexthop)
		}
	}
}
