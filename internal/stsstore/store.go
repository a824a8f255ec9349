// Package stsstore keeps MTA-STS policies (RFC 8461) in memory and on disk, and renews those in use.
package stsstore

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
)

// ErrBusy says that more policies are being fetched than is good: nothing is known, ask again later.
var ErrBusy = errors.New("mtasts: too many policies are being fetched")

// errClosed says the same of a store that is no more.
var errClosed = errors.New("mtasts: the store is closed")

// Fetcher fetches the policy of a domain; *mtasts.Fetcher does it over HTTPS. The error is an *mtasts.Error.
type Fetcher interface {
	Fetch(ctx context.Context, domain string) (mtasts.Policy, error)
}

// Options are for New and Configure.
type Options struct {
	// Resolver looks up the TXT record.
	Resolver dns.Resolver
	// StateDir keeps policies across restarts, in the file mtasts.db; "" keeps them in memory only.
	StateDir string
	// Fetcher fetches policies.
	Fetcher Fetcher
	// MaxPolicies bounds the policies that are kept, DefaultMaxPolicies by default; one over 2 KiB counts as several. Those unused
	// for longest go first.
	MaxPolicies int
	Logger      *slog.Logger
	// Observe is told of every fetch, if it is not nil. It must not block.
	Observe func(Event)
}

// Event is a fetch that has ended, for metrics.
type Event struct {
	// Result is "ok" or a Failure.
	Result string
	// Refresh is set where no lookup asked for it.
	Refresh bool
	Took    time.Duration
}

// DefaultMaxPolicies is how many policies a store keeps.
const DefaultMaxPolicies = 100_000

func (o Options) withDefaults() *Options {
	if o.MaxPolicies <= 0 {
		o.MaxPolicies = DefaultMaxPolicies
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &o
}

// Store finds policies and keeps them. Make one with New, Run it for what is to be
// done without being asked, and Close it.
type Store struct {
	options  atomic.Pointer[Options]
	table    *table
	failures *failures
	records  records
	counters counters

	// disk is nil without a state directory. loaded says that everything on it is in the table. moving is held
	// while something goes from disk to table, and by Flush, so that nothing that was flushed comes back.
	disk   *disk
	loaded atomic.Bool
	moving sync.Mutex

	flights singleflight.Group
	room    *semaphore.Weighted // for flights

	life    context.Context // of flights, which outlive the lookups that began them
	stop    context.CancelFunc
	closing sync.Mutex // guards closed, and with it the adding to flying
	closed  bool
	flying  sync.WaitGroup
}

// New returns a store, with the policies that are in o.StateDir. A state directory that cannot be used is no
// error: a warning is logged, and policies are kept in memory. The one error is a missing Resolver or Fetcher.
func New(o Options) (*Store, error) {
	if o.Resolver == nil || o.Fetcher == nil {
		return nil, errors.New("stsstore: Resolver and Fetcher must be set")
	}
	s := &Store{
		table: newTable(), failures: newFailures(), records: newRecords(),
		room: semaphore.NewWeighted(maxFlights),
	}
	s.life, s.stop = context.WithCancel(context.Background())
	s.Configure(o)
	s.loaded.Store(true)
	if o.StateDir != "" {
		s.disk = newDisk(o.StateDir, s.options.Load().Logger)
		s.loaded.Store(!s.disk.open(startPatience))
	}
	return s, nil
}

// Configure puts new options in force for whatever begins after it. StateDir and Logger stay what
// they were.
func (s *Store) Configure(o Options) {
	n := o.withDefaults()
	if old := s.options.Load(); old != nil {
		n.StateDir, n.Logger = old.StateDir, old.Logger
	}
	s.options.Store(n)
	// What is too much goes as new policies come.
	s.table.setLimit(n.MaxPolicies)
}

// Close ends all fetching, writes what is not on disk yet, and lets go of the file.
func (s *Store) Close() error {
	s.closing.Lock()
	s.closed = true
	s.closing.Unlock()
	s.stop()
	s.flying.Wait()
	if s.disk == nil {
		return nil
	}
	s.mend(context.Background())
	s.saveAll()
	return s.disk.close()
}

// begin is called before work that Close must wait for, and s.flying.Done after it if begin returned true.
func (s *Store) begin() bool {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed {
		return false
	}
	s.flying.Add(1)
	return true
}

// known returns what is kept for a domain, live or not, or nil. sure is false where that is not the last word,
// because what is on disk has not been read yet and the caller may not wait for it.
func (s *Store) known(domain string, mayWait bool) (e *entry, sure bool) {
	all := s.loaded.Load() // before the look: what is read in between is seen or not taken for missing
	if e = s.table.get(domain); e != nil || all {
		return e, true
	}
	if !mayWait {
		return nil, false
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	if e = s.table.get(domain); e != nil {
		return e, true
	}
	value, err := s.disk.read(domain)
	if err != nil || value == nil {
		return nil, true
	}
	if e, err = decode(domain, value); err != nil {
		return nil, true
	}
	s.save(s.table.putNew(e)...)
	return s.table.get(domain), true
}
