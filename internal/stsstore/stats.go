package stsstore

import (
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

// Stats describe a store.
type Stats struct {
	Policies        int       // the number of live policies
	Fetched, Failed uint64    // fetches since the start
	Persistent      bool      // all policies are on disk and will survive a restart
	Blocked         time.Time // since when no policy can be fetched from this host; zero if that is not so
}

// Stats returns the present state and the counters.
func (s *Store) Stats() Stats {
	st := Stats{
		Fetched: s.fetched.Load(), Failed: s.failed.Load(),
		Persistent: s.disk.IsOpen(), Blocked: s.reach.blocked(),
	}
	now := time.Now()
	st.Policies = len(s.table.where(func(e *entry) bool { return e.live(now) }))
	return st
}

// Entry describes a domain: its live policy, its last failed fetch, or both.
type Entry struct {
	Policy mtasts.Result // a live policy, confirmed or not; the zero Result if there is none
	// Failure, Reason and Retry are set if the last fetch failed: how, why, and when the next attempt may begin.
	Failure mtasts.Failure
	Reason  string
	Retry   time.Time
}

// Get describes a domain. It returns false if the store knows nothing about it.
func (s *Store) Get(domain string) (Entry, bool) {
	domain = normal(domain)
	var e Entry
	now := time.Now()
	if have := s.table.get(domain); have.live(now) {
		e.Policy = have.result()
	}
	if f, ok := s.failures.get(domain); ok && now.Before(f.retry) {
		e.Failure, e.Reason, e.Retry = f.err.Failure, f.err.Error(), f.retry
	}
	return e, e.Policy.State == mtasts.Found || e.Failure != ""
}
