package dnscache

import (
	"math"
	"sync"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/policyd/policyd/internal/dns"
)

// shard holds a part of the entries. A go-cache instance per type holds them by name, so that a hit does not have to
// build a key; it is used without expiry and without janitor. The ring holds the same entries for eviction by the
// CLOCK algorithm: if the shard is full, the pointer skips entries that were used since its last round and evicts the
// first that was not. So the bound is hard, and names in use survive a flood of others.
type shard struct {
	byType map[dns.Type]*gocache.Cache // not changed
	stats  *counters

	mu         sync.Mutex // of writers; guards what follows and keeps it in step with byType
	limit      int        // of entries, at least 1
	bytesLimit int64
	bytes      int64
	ring       []*entry
	free       []int32 // empty places of the ring
	pointer    int     // the next candidate for eviction
}

func newShard(stats *counters) *shard {
	s := &shard{byType: map[dns.Type]*gocache.Cache{}, stats: stats}
	for _, t := range dns.Types() {
		s.byType[t] = gocache.New(gocache.NoExpiration, 0)
	}
	return s
}

// get returns the entry for a canonical question, or nil.
func (s *shard) get(q dns.Question) *entry {
	of := s.byType[q.Type]
	if of == nil {
		return nil
	}
	found, ok := of.Get(q.Name)
	if !ok {
		return nil
	}
	e, _ := found.(*entry)
	return e
}

// put stores e instead of old, which may be nil; s.mu is held.
func (s *shard) put(e, old *entry) {
	q := e.question()
	of := s.byType[q.Type]
	if of == nil {
		return // policyd does not ask for this type
	}
	const share = 4
	weight := e.weigh()
	noted := old != nil && e.rrset != nil && e.rrset == old.rrset // a failure beside the same answer
	if weight > min(s.bytesLimit/share, math.MaxUint32) && !noted {
		if old != nil { // too large: many other entries would have to be evicted
			s.remove(old)
		}
		return
	}
	e.bytes = uint32(weight)
	if old != nil {
		e.slot = old.slot
		e.marks.Or(old.marks.Load() & used)
		s.bytes -= int64(old.bytes)
	} else {
		for s.count() >= s.limit {
			s.evict()
		}
		e.slot = s.place()
	}
	s.ring[e.slot] = e
	s.bytes += int64(e.bytes)
	of.Set(q.Name, e, gocache.NoExpiration)
	s.stats.changes.Add(1) // after the change, for those who read the number before a lookup
	for s.count() > s.limit || s.bytes > s.bytesLimit {
		s.evict()
	}
}

// place returns the index of an empty place of the ring; s.mu is held.
func (s *shard) place() int32 {
	if last := len(s.free) - 1; last >= 0 {
		slot := s.free[last]
		s.free = s.free[:last]
		return slot
	}
	s.ring = append(s.ring, nil)
	return int32(len(s.ring) - 1)
}

func (s *shard) count() int { return len(s.ring) - len(s.free) }

// evict removes one entry; s.mu is held and there is an entry. After two rounds it takes any entry, because
// concurrent hits could mark each one again before the pointer arrives.
func (s *shard) evict() {
	for steps := 0; ; steps++ {
		e := s.ring[s.pointer]
		s.pointer = (s.pointer + 1) % len(s.ring)
		if e != nil && (!e.unmark(used) || steps > 2*len(s.ring)) {
			s.remove(e)
			s.stats.evicted.Add(1)
			return
		}
	}
}

// remove removes e; s.mu is held.
func (s *shard) remove(e *entry) {
	q := e.question()
	s.byType[q.Type].Delete(q.Name)
	s.stats.changes.Add(1)
	s.ring[e.slot] = nil
	s.free = append(s.free, e.slot)
	s.bytes -= int64(e.bytes)
}

// removeIf removes the entries for which f returns true, and returns their number. It unlocks now and then for
// writers, and never blocks hits.
func (s *shard) removeIf(f func(*entry) bool) (removed int) {
	const step = 512
	for from, more := 0, true; more; from += step {
		s.mu.Lock()
		for i := from; i < min(from+step, len(s.ring)); i++ {
			if e := s.ring[i]; e != nil && f(e) {
				s.remove(e)
				removed++
			}
		}
		more = from+step < len(s.ring)
		s.mu.Unlock()
	}
	return removed
}

// sweep removes the entries that are of no use any more.
func (s *shard) sweep(now time.Time, g dns.Epoch) {
	s.removeIf(func(e *entry) bool { return e.dead(now, g) })
}

// all returns the entries for which f returns true.
func (s *shard) all(f func(*entry) bool) (found []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ring {
		if e != nil && f(e) {
			found = append(found, e)
		}
	}
	return found
}

func (s *shard) setLimit(entries int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.bytesLimit = entries, bytes
}

func (s *shard) size() (entries int, bytes, maxBytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count(), s.bytes, s.bytesLimit
}
