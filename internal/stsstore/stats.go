package stsstore

import (
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

// Stats describe a store. Their JSON form is stable.
type Stats struct {
	// Policies is the number of live policies. Persistent means that all are on disk and will survive a restart.
	Policies   int  `json:"policies"`
	Persistent bool `json:"kept"`
	// Fetches counts those since the start by result: ok or failed.
	Fetches map[string]uint64 `json:"fetches"`
	// Blocked is since when no policy can be fetched from this host; zero if that is not so.
	Blocked time.Time `json:"blocked_since,omitzero"`
}

// Stats returns the present state and the counters.
func (s *Store) Stats() Stats {
	st := Stats{
		Persistent: s.disk.IsOpen(), Blocked: s.reach.blocked(),
		Fetches: map[string]uint64{"ok": s.fetched.Load(), "failed": s.failed.Load()},
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
