// Package stsstore keeps MTA-STS policies (RFC 8461) in memory and on disk.
//
// A policy that was fetched holds for its max_age, whatever DNS and the policy host do in that time. Nothing else
// protects a domain from an attacker who suppresses its TXT record (section 10.2). So a Store
//
//   - never lets a failure of any kind end a policy that is live. Only a newer policy, fetched over verified HTTPS,
//     replaces it;
//   - fetches a policy when the TXT record announces an id that it does not have. Lookups for one domain share a fetch,
//     failed fetches back off, and the number of concurrent fetches is bounded;
//   - renews policies in use once a day, "regardless of the state of the _mta-sts TXT record" (section 10.2);
//   - writes each policy to a bbolt database before the lookup that fetched it is answered, and reads all of them when
//     it starts. Without a usable disk it keeps policies in memory and tries the disk again.
package stsstore

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/statedb"
)

// Fetcher fetches the policy of a domain; *mtasts.Fetcher does it over HTTPS. The error is an *mtasts.Error.
type Fetcher interface {
	Fetch(ctx context.Context, domain string) (mtasts.Policy, error)
}

// Options are for New and Configure. Resolver and Fetcher are required.
type Options struct {
	Resolver dns.Resolver // looks up the TXT record
	Fetcher  Fetcher
	StateDir string // keeps policies across restarts, in the file mtasts.db; "" keeps them in memory only
	// MaxPolicies bounds the policies that are kept; 0 means DefaultMaxPolicies. A policy over 2 KiB counts as several.
	// One that was not used for long is evicted first.
	MaxPolicies int
	Logger      *slog.Logger
	// Fetched is called after a policy was fetched and kept, if it is not nil. It must not block.
	Fetched func(domain string)

	openFile func(name string, flag int, mode os.FileMode) (*os.File, error) // replaces os.OpenFile in tests
}

// DefaultMaxPolicies is how many policies a store keeps.
const DefaultMaxPolicies = 100_000

func (o Options) withDefaults() *Options {
	if o.MaxPolicies <= 0 {
		o.MaxPolicies = DefaultMaxPolicies
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Fetched == nil {
		o.Fetched = func(string) {}
	}
	return &o
}

// Store finds policies and keeps them. Make one with New, call Run for the work in the background, and Close it.
type Store struct {
	options  atomic.Pointer[Options]
	table    table
	failures failures
	reach    reach
	disk     *statedb.File

	counting sync.Mutex
	results  map[string]uint64 // fetches by result, see Stats

	shared singleflight.Group
	places chan struct{} // one for each fetch under way

	life     context.Context // of fetches, which outlive the lookups that began them
	stop     context.CancelFunc
	fetching sync.RWMutex // a fetch holds it for reading, and Close waits for all
}

// New returns a store with the policies that are in o.StateDir. If the state directory cannot be used, the store logs a
// warning and keeps policies in memory.
func New(o Options) *Store {
	s := &Store{places: make(chan struct{}, maxFetches), results: map[string]uint64{}}
	s.table.entries, s.failures.list, s.reach.networks = map[string]*entry{}, map[string]failure{}, map[string]string{}
	s.life, s.stop = context.WithCancel(context.Background())
	s.Configure(o)
	s.disk = statedb.New(statedb.Options{
		Dir: o.StateDir, Name: "mtasts.db", Bucket: "policies-1", Log: s.options.Load().Logger, OpenFile: o.openFile,
		Names:  func() []string { return s.table.domains(func(*entry) bool { return true }) },
		Encode: s.encoded, Load: s.load,
	})
	s.disk.Open()
	return s
}

// Configure replaces the options, except StateDir, for everything that begins after it.
func (s *Store) Configure(o Options) { s.options.Store(o.withDefaults()) }

// Close ends all fetches, writes what is not on disk yet, and closes the file.
func (s *Store) Close() error {
	s.stop()
	s.fetching.Lock()
	defer s.fetching.Unlock()
	return s.disk.Close()
}

// Flush forgets the policy and the failure of a domain, also on disk, and reports whether there was one. A live policy
// stops protecting the domain until it is fetched again: this is for an operator who knows that it is wrong.
func (s *Store) Flush(domain string) bool {
	domain = normal(domain)
	known := s.table.remove(s.table.get(domain))
	s.disk.Mark(domain)
	s.disk.Save()
	return s.failures.forget(domain) || known
}

// put puts an entry in the table and on disk.
func (s *Store) put(e *entry) {
	s.disk.Mark(append(s.table.put(e, s.options.Load().MaxPolicies), e.domain)...)
	s.disk.Save()
}

// encoded returns a policy in the form in which it is on disk, nil if there is none.
func (s *Store) encoded(domain string) []byte {
	if e := s.table.get(domain); e != nil {
		return e.encode(e.fetched)
	}
	return nil
}

// load takes over a policy from the disk. A policy that was fetched since the start is newer. The clock was wrong when
// one from the future was fetched, or is wrong now: it holds for its max_age from now on, unless it is renewed, and
// keeps its time on disk.
func (s *Store) load(domain string, value []byte) bool {
	e, err := decode(domain, value)
	if err != nil || s.table.get(domain) != nil {
		return false
	}
	if now := time.Now(); e.fetched.After(now) {
		e = newEntry(domain, e.id, e.policy, now)
		e.refresh = now
	}
	s.disk.Mark(s.table.put(e, s.options.Load().MaxPolicies)...)
	return true
}
