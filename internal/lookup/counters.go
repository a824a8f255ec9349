package lookup

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// mapID tells the maps apart in counters and log lines, under their own names.
type mapID uint8

const (
	mapTLSPolicy mapID = iota
	mapTLSRPT
	mapTransport
	mapIDs
)

func (m mapID) String() string {
	return [mapIDs]string{"tls-policy", "tls-policy-tlsrpt", "transport"}[m]
}

type counters struct {
	replies  [mapIDs][socketmap.StatusPerm + 1]atomic.Uint64
	unsigned atomic.Uint64
	panics   atomic.Uint64
	unknown  atomic.Uint64

	observe func(Kind) func(took time.Duration)
	kinds   atomic.Pointer[map[Kind]*counted] // that there have been; replaced, not changed
	mu      sync.Mutex                        // of those who replace it
}

// counted is how answers of a kind are counted.
type counted struct {
	replies  *atomic.Uint64
	unsigned bool
	observe  func(took time.Duration) // nil: not observed
}

// of returns how a, an answer of map m, is counted. There are as many kinds as the fixed sets of values make, so a kind is
// mostly one that there has been, and then this takes no lock and no memory.
func (c *counters) of(m mapID, a *answered) *counted {
	kind := a.kindIn(m)
	if known := c.kinds.Load(); known != nil && (*known)[kind] != nil {
		return (*known)[kind]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	more := map[Kind]*counted{}
	if known := c.kinds.Load(); known != nil {
		if k := (*known)[kind]; k != nil {
			return k
		}
		more = maps.Clone(*known)
	}
	k := &counted{replies: &c.replies[m][a.reply.Status], unsigned: a.decision.Unsigned}
	if c.observe != nil {
		k.observe = c.observe(kind)
	}
	more[kind] = k
	c.kinds.Store(&more)
	return k
}

// count counts an answer to a request that came at start.
func (k *counted) count(s *Service, start time.Duration) {
	k.replies.Add(1)
	if k.unsigned {
		s.counters.unsigned.Add(1)
	}
	if k.observe != nil {
		k.observe(s.clock() - start)
	}
}

// Stats are counters since the start.
type Stats struct {
	// Replies counts by map and by status word, such as "tls-policy" and "OK".
	Replies map[string]map[string]uint64
	// Unsigned counts policies that rest on an unsigned MX RRset.
	Unsigned uint64
	// Panics counts lookups that ended in an internal error.
	Panics uint64
	// UnknownMaps counts lookups in unknown maps: main.cf has a wrong map name, and the mail waits.
	UnknownMaps uint64
}

// Stats returns the counters as they are.
func (s *Service) Stats() Stats {
	st := Stats{Replies: map[string]map[string]uint64{}, Unsigned: s.counters.unsigned.Load(), Panics: s.counters.panics.Load(), UnknownMaps: s.counters.unknown.Load()}
	for m := range mapIDs {
		byStatus := map[string]uint64{}
		for status := range s.counters.replies[m] {
			byStatus[socketmap.Status(status).String()] = s.counters.replies[m][status].Load()
		}
		st.Replies[m.String()] = byStatus
	}
	return st
}
