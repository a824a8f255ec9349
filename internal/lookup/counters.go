package lookup

import (
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// counter counts the answers of one kind.
type counter struct {
	n       atomic.Uint64
	observe func(took time.Duration) // nil: not observed
}

// counterOf returns the counter of an answer. There are as many as the fixed sets of values in Kind make.
func (s *Service) counterOf(c call, a *answered) *counter {
	kind := Kind{Map: c.m, Status: inMode(c.set.Policy.Mode, a.reply).Status.String(), Cached: a.cached}
	if a.next.Name != "" {
		d := &a.decision
		kind.Decided, kind.Unsigned = true, d.Unsigned
		kind.Source, kind.Class, kind.Reason = string(d.Source()), d.Class(), string(d.Reason)
	}
	s.counting.RLock()
	n := s.kinds[kind]
	s.counting.RUnlock()
	if n != nil {
		return n
	}
	s.counting.Lock()
	defer s.counting.Unlock()
	if n = s.kinds[kind]; n == nil {
		n = &counter{}
		if s.sources.Observe != nil {
			n.observe = s.sources.Observe(kind)
		}
		s.kinds[kind] = n
	}
	return n
}

// Stats are counters since the start.
type Stats struct {
	// Replies counts by map and by status word, such as "tls-policy" and "OK".
	Replies map[string]map[string]uint64 `json:"replies"`
	// Unsigned counts policies that rest on an unsigned MX RRset.
	Unsigned uint64 `json:"unsigned"`
	// Panics counts lookups that ended in an internal error.
	Panics uint64 `json:"panics"`
	// UnknownMaps counts lookups in unknown maps: main.cf has a wrong map name, and the mail waits.
	UnknownMaps uint64 `json:"-"`
}

// Stats returns the counters as they are.
func (s *Service) Stats() Stats {
	st := Stats{Replies: map[string]map[string]uint64{}, Panics: s.panics.Load(), UnknownMaps: s.unknowns.Load()}
	for _, m := range []string{tlsPolicy, tlsPolicyTLSRPT, transport} {
		st.Replies[m] = map[string]uint64{}
		for status := range socketmap.StatusPerm + 1 {
			st.Replies[m][status.String()] = 0
		}
	}
	s.counting.RLock()
	defer s.counting.RUnlock()
	for kind, c := range s.kinds {
		n := c.n.Load()
		st.Replies[kind.Map][kind.Status] += n
		if kind.Unsigned {
			st.Unsigned += n
		}
	}
	return st
}
