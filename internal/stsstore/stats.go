package stsstore

import (
	"maps"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

// Stats describe a store. Their JSON form is stable.
type Stats struct {
	Policies   int               `json:"policies"`               // live ones
	Persistent bool              `json:"kept"`                   // all are on disk and will survive a restart
	Fetches    map[string]uint64 `json:"fetches"`                // since the start by result: ok or failed
	Results    map[string]uint64 `json:"-"`                      // the same by result: ok or an mtasts.Failure
	Blocked    time.Time         `json:"blocked_since,omitzero"` // since when no policy can be fetched from here
}

// Stats returns the present state and the counters.
func (s *Store) Stats() Stats {
	now := time.Now()
	st := Stats{Persistent: s.table.IsOpen(), Blocked: s.blocked.Since()}
	s.table.RLock()
	defer s.table.RUnlock()
	st.Results, st.Fetches = maps.Clone(s.results), map[string]uint64{"ok": 0, "failed": 0}
	for result, n := range s.results {
		if result != "ok" {
			result = "failed"
		}
		st.Fetches[result] += n
	}
	for _, p := range s.table.Records {
		if p.live(now) {
			st.Policies++
		}
	}
	return st
}

// count counts a fetch.
func (s *Store) count(result string) {
	s.table.Lock()
	defer s.table.Unlock()
	s.results[result]++
}

// Entry describes a domain: its live policy, confirmed or not, its last failed fetch, or both. Its JSON form is stable.
type Entry struct {
	Mode    mtasts.Mode `json:"mode,omitempty"`
	ID      string      `json:"id,omitempty"`
	MX      []string    `json:"mx,omitempty"`
	Fetched time.Time   `json:"fetched,omitzero"`
	Expires time.Time   `json:"expires,omitzero"`
	// Reason and Retry are set if the last fetch failed: why, and when the next attempt may begin.
	Reason string    `json:"failure,omitempty"`
	Retry  time.Time `json:"retry,omitzero"`
}

// Get describes a domain. It returns false if the store knows nothing about it.
func (s *Store) Get(domain string) (e Entry, known bool) {
	domain = normal(domain)
	now := time.Now()
	if p := s.table.Get(domain); p.live(now) {
		e = Entry{Mode: p.policy.Mode, ID: p.id, MX: p.policy.MX, Fetched: p.fetched, Expires: p.expires}
	}
	if f := s.failures.Get(domain); now.Before(f.retry) {
		e.Reason, e.Retry = f.err.Error(), f.retry
	}
	return e, e.Mode != "" || e.Reason != ""
}
