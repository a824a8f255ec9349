package stsstore

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

// Errors of Import.
var (
	// ErrNotNewer means that the store has a policy of the domain that was fetched at the same time or later.
	ErrNotNewer = errors.New("stsstore: the policy is not newer")
	// ErrNotEnforced means that the policy would not strengthen an answer: its mode is not enforce, or it has expired.
	ErrNotEnforced = errors.New("stsstore: not a live policy in mode enforce")
)

// Shared is a policy in the form in which the nodes of one site exchange it.
type Shared struct {
	// Data is the encoded policy, which does not depend on when it was fetched.
	Data []byte
	// Fetched is when a node fetched it, and Expires when it must no longer be used.
	Fetched, Expires time.Time
}

// Domains returns the domains with a live policy in mode enforce, in no order.
func (s *Store) Domains() (domains []string) {
	now := time.Now()
	s.table.each(func(e *entry) {
		if e.live(now) && e.policy.Mode == mtasts.Enforce {
			domains = append(domains, e.domain)
		}
	})
	return domains
}

// Export returns the live policy of a domain for other nodes. It returns false when there is none in mode enforce.
func (s *Store) Export(domain string) (Shared, bool) {
	e := s.table.get(domain)
	if !e.live(time.Now()) || e.policy.Mode != mtasts.Enforce {
		return Shared{}, false
	}
	data, err := json.Marshal(stored{ID: e.id, Lines: e.policy.Raw})
	if err != nil {
		return Shared{}, false
	}
	return Shared{Data: data, Fetched: e.fetched, Expires: e.expires}, true
}

// Import keeps a policy that another node has fetched, as if it had been fetched here then. It replaces only what was
// fetched earlier, so that an old record cannot undo a newer policy, not even one in mode none. The error is
// ErrNotNewer, ErrNotEnforced, or describes what is malformed.
func (s *Store) Import(domain string, p Shared) error {
	read, err := decode(domain, p.Data)
	if err != nil {
		return err
	}
	e := newEntry(domain, read.id, read.policy, p.Fetched)
	if !e.live(time.Now()) || e.policy.Mode != mtasts.Enforce {
		return ErrNotEnforced
	}
	if !s.begin() {
		return errClosed
	}
	defer s.fetching.Done()
	old := s.table.get(domain)
	if old != nil && !e.fetched.After(old.fetched) {
		return ErrNotNewer
	}
	if old != nil {
		e.touched.Store(old.touched.Load())
		e.used.Store(old.used.Load())
	}
	s.put(e.after(old))
	return nil
}
