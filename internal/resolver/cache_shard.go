package resolver

import (
	"sync"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"
)

// entry is what is known for one name and type. It is replaced and not changed, but for its two flags.
type entry struct {
	question   Question
	rrset      *RRset // nil: nothing but a failure is known
	stored     time.Time
	failure    *Error // of the last lookup, nil if that succeeded
	backOff    time.Duration
	retry      time.Time // before, a failure is not tried again
	generation Generation
	slot       int // in the ring of the shard; guarded by its mutex

	used       atomic.Bool // since the hand of the clock passed
	refreshing atomic.Bool
}

// valid says that the answer is of the world of generation g.
func (e *entry) valid(g Generation) bool {
	return e.rrset != nil && e.generation.Any == g.Any && (e.rrset.Status != Secure || e.generation.Secure == g.Secure)
}

// alive says that the answer can be given.
func (e *entry) alive(now time.Time, g Generation) bool {
	return e.valid(g) && now.Before(e.rrset.Expires)
}

// failed says that the last lookup failed, so recently that it is not tried again.
func (e *entry) failed(now time.Time, g Generation) bool {
	return e.failure != nil && e.generation == g && now.Before(e.retry)
}

// stale says that the answer, though expired, can be given for a failing resolver: it protects. Denials and
// insecure answers do not (RFC 8767 section 10).
func (e *entry) stale(now time.Time, g Generation) bool {
	if !e.valid(g) || e.rrset.Status != Secure || now.After(e.rrset.Expires.Add(maxStale)) {
		return false
	}
	return len(e.rrset.MX) > 0 || len(e.rrset.TLSA) > 0
}

// dead says that nothing of the entry is of use any more.
func (e *entry) dead(now time.Time, g Generation) bool {
	return !e.alive(now, g) && !e.stale(now, g) && (e.failure == nil || e.generation != g || now.After(e.retry.Add(maxBackOff)))
}

// shard holds a part of the entries. The go-cache instances hold them by name, one for each type, so that a hit needs
// no key to be made; they are used without expiry and without janitor. The ring holds the same entries in
// the order of a clock: where the shard is full, the hand passes over those used since its last round and
// evicts the first that was not. So the bound is hard, and names in use survive a flood of others.
type shard struct {
	byType map[Type]*gocache.Cache // not changed
	stats  *cacheCounters

	mu    sync.Mutex // of writers; guards what follows and keeps it in step with byType
	limit int
	ring  []*entry
	free  []int // empty places of the ring
	hand  int
}

func newShard(stats *cacheCounters) *shard {
	s := &shard{byType: map[Type]*gocache.Cache{}, stats: stats}
	for _, t := range []Type{TypeA, TypeAAAA, TypeCNAME, TypeMX, TypeNS, TypeTLSA, TypeTXT} {
		s.byType[t] = gocache.New(gocache.NoExpiration, 0)
	}
	return s
}

// get returns the entry for a canonical question, or nil.
func (s *shard) get(q Question) *entry {
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
	of := s.byType[e.question.Type]
	if of == nil {
		return // a type that is never asked for
	}
	switch {
	case old != nil:
		e.slot = old.slot
	case s.count() >= s.limit:
		s.evict()
		fallthrough
	case len(s.free) > 0:
		last := len(s.free) - 1
		e.slot, s.free = s.free[last], s.free[:last]
	default:
		e.slot = len(s.ring)
		s.ring = append(s.ring, nil)
	}
	s.ring[e.slot] = e
	of.Set(e.question.Name, e, gocache.NoExpiration)
	for s.count() > s.limit {
		s.evict()
	}
}

func (s *shard) count() int { return len(s.ring) - len(s.free) }

// evict removes the entry that the hand of the clock finds; s.mu is held and there is an entry.
func (s *shard) evict() {
	for {
		e := s.ring[s.hand]
		s.hand = (s.hand + 1) % len(s.ring)
		if e != nil && !e.used.Swap(false) {
			s.remove(e)
			s.stats.evicted.Add(1)
			return
		}
	}
}

// remove takes e out; s.mu is held.
func (s *shard) remove(e *entry) {
	s.byType[e.question.Type].Delete(e.question.Name)
	s.ring[e.slot] = nil
	s.free = append(s.free, e.slot)
}

// sweep removes what is of no more use.
func (s *shard) sweep(now time.Time, g Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ring {
		if e != nil && e.dead(now, g) {
			s.remove(e)
		}
	}
}

func (s *shard) setLimit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
}

func (s *shard) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count()
}
