package dnscache

import (
	"math"
	"sync"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/policyd/policyd/internal/dns"
)

// shard holds a part of the entries. The go-cache instances hold them by name, one for each type, so that a hit needs
// no key to be made; they are used without expiry and without janitor. The ring holds the same entries in
// the order of a clock: where the shard is full, the hand passes over those used since its last round and
// evicts the first that was not. So the bound is hard, and names in use survive a flood of others.
type shard struct {
	byType map[dns.Type]*gocache.Cache // not changed
	stats  *counters

	mu         sync.Mutex // of writers; guards what follows and keeps it in step with byType
	limit      int        // of entries, at least 1
	bytesLimit int64
	bytes      int64
	ring       []*entry
	free       []int32 // empty places of the ring
	hand       int
}

func newShard(stats *counters) *shard {
	s := &shard{byType: map[dns.Type]*gocache.Cache{}, stats: stats}
	for _, t := range []dns.Type{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeMX, dns.TypeNS, dns.TypeTLSA, dns.TypeTXT} {
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

// put stores e in the place of old, which may be nil; s.mu is held.
func (s *shard) put(e, old *entry) {
	q := e.question()
	of := s.byType[q.Type]
	if of == nil {
		return // a type that is never asked for
	}
	const share = 4
	weight := e.weigh()
	noted := old != nil && e.rrset != nil && e.rrset == old.rrset // a failure, beside the answer that is there
	if weight > min(s.bytesLimit/share, math.MaxUint32) && !noted {
		if old != nil { // so large that much else would have to go
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
	s.stats.changes.Add(1) // after the change: who reads the number before a lookup notices
	for s.count() > s.limit || s.bytes > s.bytesLimit {
		s.evict()
	}
}

// place returns an empty place of the ring; s.mu is held.
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

// evict removes the entry that the hand of the clock finds; s.mu is held and there is an entry. After two rounds it
// takes any: hits go on meanwhile, and could mark each entry again before the hand comes.
func (s *shard) evict() {
	for steps := 0; ; steps++ {
		e := s.ring[s.hand]
		s.hand = (s.hand + 1) % len(s.ring)
		if e != nil && (!e.unmark(used) || steps > 2*len(s.ring)) {
			s.remove(e)
			s.stats.evicted.Add(1)
			return
		}
	}
}

// remove takes e out; s.mu is held.
func (s *shard) remove(e *entry) {
	q := e.question()
	s.byType[q.Type].Delete(q.Name)
	s.stats.changes.Add(1)
	s.ring[e.slot] = nil
	s.free = append(s.free, e.slot)
	s.bytes -= int64(e.bytes)
}

// removeIf removes the entries of which f says so, and returns how many. It lets writers in now and then; hits
// it does not hold up.
func (s *shard) removeIf(f func(*entry) bool) (removed int) {
	const atOnce = 512
	for from, more := 0, true; more; from += atOnce {
		s.mu.Lock()
		for i := from; i < min(from+atOnce, len(s.ring)); i++ {
			if e := s.ring[i]; e != nil && f(e) {
				s.remove(e)
				removed++
			}
		}
		more = from+atOnce < len(s.ring)
		s.mu.Unlock()
	}
	return removed
}

// sweep removes what is of no more use.
func (s *shard) sweep(now time.Time, g dns.Epoch) {
	s.removeIf(func(e *entry) bool { return e.dead(now, g) })
}

// all returns the entries of which f says so.
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
