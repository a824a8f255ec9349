package stsstore

import (
	"errors"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

// Domains returns the domains with a live policy in mode enforce, in no order.
func (s *Store) Domains() (domains []string) {
	now := time.Now()
	for domain, e := range s.table.All() {
		if e.enforced(now) {
			domains = append(domains, domain)
		}
	}
	return domains
}

// Share returns the live policy of a domain for the other nodes of the site, when it was fetched and its max_age; nil
// when there is none in mode enforce, or load does not know when it was fetched: theirs may be newer.
func (s *Store) Share(domain string) (policy []byte, fetched time.Time, maxAge time.Duration) {
	e := s.table.Get(domain)
	if !e.enforced(time.Now()) || e.refresh.Equal(e.fetched) {
		return nil, time.Time{}, 0
	}
	return e.encode(time.Time{}), e.fetched, e.expires.Sub(e.fetched)
}

// Merge keeps a policy that another node has fetched, as if it had been fetched here then (RFC 8461 section 3.3). It
// replaces only what was fetched earlier, so that an old record cannot undo a newer policy, not even one in mode none:
// it returns false then. The error describes a policy that is malformed, or not live and in mode enforce.
func (s *Store) Merge(domain string, policy []byte, fetched time.Time) (bool, error) {
	read, err := decode(domain, policy)
	if err != nil {
		return false, err
	}
	e := newEntry(domain, read.id, read.policy, fetched)
	if !e.enforced(time.Now()) {
		return false, errors.New("stsstore: not a live policy in mode enforce") // it would not strengthen an answer
	}
	if old := s.table.Get(domain); old != nil {
		if !e.fetched.After(old.fetched) {
			return false, nil
		}
		e.used.Store(old.used.Load())
	}
	s.put(e)
	return true, nil
}

func (e *entry) enforced(now time.Time) bool { return e.live(now) && e.policy.Mode == mtasts.Enforce }
