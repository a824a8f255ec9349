package stsstore

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

type counters struct {
	hits, stale, fetched, failed, refreshed, busy, evicted atomic.Uint64
}

// Stats are counters since the start, and the policies by mode.
type Stats struct {
	// Enforce, Testing and None are the live policies by mode.
	Enforce, Testing, None int
	// Failing is the number of domains whose policy could not be fetched and is tried again later.
	Failing int
	// Hits counts lookups answered with a stored policy that the TXT record confirmed, Stale those with one that it did not
	// confirm.
	Hits, Stale uint64
	// Fetched and Failed count fetches, Refreshed those of Fetched that no lookup asked for, Busy those that did not begin
	// because no place became free in time.
	Fetched, Failed, Refreshed, Busy uint64
	Evicted                          uint64
	// Persistent is set if all policies are on disk and will survive a restart.
	Persistent bool
	// Blocked is since when no policy can be fetched from this host; zero if that is not so.
	Blocked time.Time
}

// Policies is the number of live policies.
func (s Stats) Policies() int { return s.Enforce + s.Testing + s.None }

// Stats returns the counters as they are.
func (s *Store) Stats() Stats {
	c := &s.counters
	st := Stats{
		Hits: c.hits.Load(), Stale: c.stale.Load(),
		Fetched: c.fetched.Load(), Failed: c.failed.Load(), Refreshed: c.refreshed.Load(), Busy: c.busy.Load(),
		Evicted:    c.evicted.Load(),
		Persistent: s.disk != nil && s.disk.IsOpen(), Blocked: s.reach.blocked(),
	}
	now := time.Now()
	s.table.each(func(e *entry) {
		switch {
		case !e.live(now):
		case e.policy.Mode == mtasts.Enforce:
			st.Enforce++
		case e.policy.Mode == mtasts.Testing:
			st.Testing++
		default:
			st.None++
		}
	})
	for _, f := range s.failures.all() {
		if now.Before(f.retry) {
			st.Failing++
		}
	}
	return st
}

// Entry describes a domain: its live policy, its last failed fetch, or both.
type Entry struct {
	Domain string
	// Mode, ID, MX, MaxAge, Fetched and Expires are those of the policy; Mode is ModeUnknown if there is none.
	Mode             mtasts.Mode
	ID               string
	MX               []string
	MaxAge           time.Duration
	Fetched, Expires time.Time
	// Used is set if the policy was asked for since it was fetched, so that it will be renewed.
	Used bool
	// Failure, Reason and Retry are set if the last fetch failed: how, why, and when the next attempt may begin.
	Failure mtasts.Failure
	Reason  string
	Retry   time.Time
}

// List returns the domains that contain match, in order, at most limit of them; 0 means all.
func (s *Store) List(match string, limit int) []Entry {
	match = strings.ToLower(match)
	now := time.Now()
	found := map[string]Entry{}
	s.table.each(func(e *entry) {
		if e.live(now) && strings.Contains(e.domain, match) {
			found[e.domain] = Entry{
				Domain: e.domain, Mode: e.policy.Mode, ID: e.id, MX: e.policy.MX, MaxAge: e.policy.MaxAge,
				Fetched: e.fetched, Expires: e.expires, Used: e.used.Load(),
			}
		}
	})
	for domain, f := range s.failures.all() {
		if now.Before(f.retry) && strings.Contains(domain, match) {
			e := found[domain]
			e.Domain, e.Failure, e.Reason, e.Retry = domain, f.err.Failure, f.err.Error(), f.retry
			found[domain] = e
		}
	}
	list := make([]Entry, 0, len(found))
	for _, e := range found {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Domain, b.Domain) })
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	return list
}
