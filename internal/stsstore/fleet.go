package stsstore

import (
	"errors"
	"time"
)

// Domains returns the domains with a live policy in mode enforce, in no order.
func (s *Store) Domains() (domains []string) {
	now := time.Now()
	for domain, p := range s.table.All() {
		if p.enforced(now) {
			domains = append(domains, domain)
		}
	}
	return domains
}

// Share returns the live policy of a domain for the other nodes of the site, when it was fetched and its max_age. It
// returns nil if there is none in mode enforce, or if it is not known when it was fetched: theirs may be newer.
func (s *Store) Share(domain string) (policy []byte, fetched time.Time, maxAge time.Duration) {
	p := s.table.Get(domain)
	if !p.enforced(time.Now()) || p.fetchedUnknown {
		return nil, time.Time{}, 0
	}
	return p.encode(time.Time{}), p.fetched, p.expires.Sub(p.fetched)
}

// Merge keeps a policy that another node has fetched, as if it had been fetched here then (RFC 8461 section 3.3). It
// replaces only a policy that was fetched earlier, so that an old record cannot undo a newer policy, not even one in
// mode none: otherwise it returns false. The error describes a policy that is malformed, or not live and in mode
// enforce.
func (s *Store) Merge(domain string, policy []byte, fetched time.Time) (bool, error) {
	read, err := decode(domain, policy)
	if err != nil {
		return false, err
	}
	p := newStoredPolicy(domain, read.id, read.policy, fetched)
	if !p.enforced(time.Now()) {
		return false, errors.New("stsstore: not a live policy in mode enforce") // it would not strengthen an answer
	}
	if old := s.table.Get(domain); old != nil {
		if !p.fetched.After(old.fetched) {
			return false, nil
		}
		p.used.Store(old.used.Load())
	}
	s.put(p)
	return true, nil
}
