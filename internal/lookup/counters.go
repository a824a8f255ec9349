package lookup

import (
	"sync/atomic"

	"github.com/policyd/policyd/socketmap"
)

// mapID tells the maps apart in counters and log lines, under their own names.
type mapID uint8

const (
	mapTLSPolicy mapID = iota
	mapTLSRPT
	mapTransport
	maps
)

func (m mapID) String() string {
	return [maps]string{"tls-policy", "tls-policy-tlsrpt", "transport"}[m]
}

type counters struct {
	replies  [maps][socketmap.StatusPerm + 1]atomic.Uint64
	unsigned atomic.Uint64
	panics   atomic.Uint64
	unknown  atomic.Uint64
}

func (c *counters) count(m mapID, s socketmap.Status) { c.replies[m][s].Add(1) }

// Stats are counters since the start.
type Stats struct {
	// Replies counts by map and by status word, such as "tls-policy" and "OK".
	Replies map[string]map[string]uint64
	// Unsigned counts policies that rest on an unsigned MX RRset.
	Unsigned uint64
	// Panics counts lookups that ended in an internal error.
	Panics uint64
	// UnknownMaps counts lookups in maps that there are not: main.cf names them, and the mail waits.
	UnknownMaps uint64
}

// Stats returns the counters as they are.
func (s *Service) Stats() Stats {
	st := Stats{Replies: map[string]map[string]uint64{}, Unsigned: s.counters.unsigned.Load(), Panics: s.counters.panics.Load(), UnknownMaps: s.counters.unknown.Load()}
	for m := range maps {
		byStatus := map[string]uint64{}
		for status := range s.counters.replies[m] {
			byStatus[socketmap.Status(status).String()] = s.counters.replies[m][status].Load()
		}
		st.Replies[m.String()] = byStatus
	}
	return st
}
