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

	"golang.org/x/sync/singleflight"

	"github.com/policyd/policyd/internal/blocked"
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

// Store finds policies and keeps them. Make one with New and call Run for the work in the background, or Close it.
type Store struct {
	options  atomic.Pointer[Options]
	table    *statedb.Table[*storedPolicy]
	results  map[string]uint64 // fetches by result, see Stats; guarded by the lock of table
	failures failures
	blocked  blocked.Detector // no policy can be fetched from this host

	shared singleflight.Group // fetches, by domain
	slots  chan struct{}      // has a token for each fetch that uses a slot

	// untilClosed ends with Close. Fetches use it because they outlive the lookups that began them.
	untilClosed context.Context
	stop        context.CancelFunc
	fetching    sync.RWMutex // a fetch holds it for reading, and Close waits for all
}

// New returns a store with the policies that are in o.StateDir. If the state directory cannot be used, the store logs a
// warning and keeps policies in memory.
func New(o Options) *Store {
	s := &Store{slots: make(chan struct{}, maxFetches), results: map[string]uint64{}}
	s.untilClosed, s.stop = context.WithCancel(context.Background())
	s.Configure(o)
	used := s.options.Load()
	s.table = statedb.New(statedb.Options[*storedPolicy]{
		Dir: o.StateDir, Name: "mtasts.db", Bucket: "policies-1", Log: used.Logger, OpenFile: o.openFile,
		Max: used.MaxPolicies, Weight: func(p *storedPolicy) int { return p.weight }, LastUse: (*storedPolicy).lastUse,
		Encode: func(p *storedPolicy) []byte { return p.encode(p.fetched) }, Decode: load,
	})
	s.failures.Table = statedb.New(statedb.Options[failure]{
		Max: maxFailures, LastUse: func(last failure) int64 { return last.retry.Unix() },
	})
	return s
}

// Configure replaces the options, except StateDir and MaxPolicies, for everything that begins after it.
func (s *Store) Configure(o Options) {
	o.MaxPolicies = cmp.Or(o.MaxPolicies, DefaultMaxPolicies)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Fetched == nil {
		o.Fetched = func(string) {}
	}
	s.options.Store(&o)
}

// Close ends all fetches, writes what is not on disk yet, and closes the file.
func (s *Store) Close() error {
	s.stop()
	s.fetching.Lock()
	defer s.fetching.Unlock()
	return s.table.Close()
}

// Flush forgets the policy and the failure of a domain, also on disk, and reports whether there was one. A live policy
// stops protecting the domain until it is fetched again: this is for an operator who has found that it is wrong.
func (s *Store) Flush(domain string) bool {
	domain = normal(domain)
	known := s.table.Forget(domain)
	s.table.Save()
	return s.failures.Forget(domain) || known
}

// put keeps a policy in memory and on disk, and returns the one that it replaces, or nil. It sets the back-off for
// another id.
func (s *Store) put(p *storedPolicy) (old *storedPolicy) {
	s.table.Lock()
	old = s.table.Records[p.domain]
	if old != nil && p.fetched.Sub(old.fetched) < idBackOffForgotten {
		p.idBackOff = old.idBackOff
		if old.id != p.id {
			p.idBackOff = min(max(2*old.idBackOff, minIDBackOff), maxIDBackOff)
		}
	}
	s.table.Put(p.domain, p)
	s.table.Unlock()
	s.table.Save()
	return old
}
