package socketmap

import "sync/atomic"

// Stats are what a Server has counted since it was made, and how many connections it has now.
type Stats struct {
	Open     int    // connections now
	Accepted uint64 // connections
	Evicted  uint64 // idle connections closed to make room for new ones
	Refused  uint64 // new connections closed because none was idle
	Idle     uint64 // connections closed for silence between requests
	Stalled  uint64 // connections closed in the middle of a request that did not come in time
	// Malformed counts connections closed for what is no netstring, too long, cut short, or no request.
	Malformed    uint64
	WriteErrors  uint64
	AcceptErrors uint64
	Panics       uint64
	Replies      map[Status]uint64
}

type counters struct {
	accepted, evicted, refused, idle, stalled, malformed, writeErrors, acceptErrors, panics atomic.Uint64

	// Connections share these few, so that processors that serve different ones seldom wait for each other.
	replies [16]replyCounters
}

// replyCounters count replies by status, in a cache line of their own.
type replyCounters [8]atomic.Uint64

// of returns the counters for the nth connection.
func (c *counters) of(n uint64) *replyCounters { return &c.replies[n%uint64(len(c.replies))] }

// Stats returns the counters as they are.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	c := &s.stats
	st := Stats{
		Open: open, Accepted: c.accepted.Load(), Evicted: c.evicted.Load(), Refused: c.refused.Load(),
		Idle: c.idle.Load(), Stalled: c.stalled.Load(), Malformed: c.malformed.Load(),
		WriteErrors: c.writeErrors.Load(), AcceptErrors: c.acceptErrors.Load(), Panics: c.panics.Load(),
		Replies: map[Status]uint64{},
	}
	for i := range StatusPerm + 1 {
		for j := range c.replies {
			st.Replies[i] += c.replies[j][i].Load()
		}
	}
	return st
}
