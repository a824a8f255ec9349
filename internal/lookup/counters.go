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

// counterOf returns the counter of an answer. Their number is bounded: every field of Kind has a fixed set of values.
func (s *Service) counterOf(c *call, a *answered) *counter {
	kind := Kind{Map: c.m, Status: c.set.Policy.Mode.Reply(a.reply).Status.String(), Cached: a.cached}
	if a.next.Name != "" {
		d := &a.decision
		kind.Source, kind.Class, kind.Reason = string(d.Source()), d.Class(), string(d.Reason)
		kind.Unsigned = d.Unsigned
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.kinds[kind]
	if n == nil {
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
	Replies     map[string]map[string]uint64 `json:"replies"`  // by map and status word, such as "tls-policy" and "OK"
	Unsigned    uint64                       `json:"unsigned"` // policies that rest on an unsigned MX RRset
	Panics      uint64                       `json:"panics"`   // lookups that ended in an internal error
	UnknownMaps uint64                       `json:"-"`        // lookups in unknown maps: main.cf has a wrong map name
}

// Stats returns the counters as they are.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Replies: map[string]map[string]uint64{}, Panics: s.panics.Load(), UnknownMaps: s.unknowns}
	for _, m := range []string{tlsPolicy, tlsPolicyTLSRPT, transport} {
		st.Replies[m] = map[string]uint64{}
		for status := range socketmap.StatusPerm + 1 {
			st.Replies[m][status.String()] = 0
		}
	}
	for kind, c := range s.kinds {
		n := c.n.Load()
		st.Replies[kind.Map][kind.Status] += n
		if kind.Unsigned {
			st.Unsigned += n
		}
	}
	return st
}
