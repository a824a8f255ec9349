package dnscache

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/policyd/policyd/internal/dns"
)

// shard holds a part of the nodes, by name in a go-cache instance without expiry and janitor. The ring holds the same
// nodes for eviction by the CLOCK algorithm: if the shard is full, the pointer skips nodes that were used since its
// last round, and evicts the first that was not. So the bound is hard, and names in use survive a flood of others.
type shard struct {
	nodes   *gocache.Cache
	stats   *counters
	origin  time.Time     // when the shard was made; packed moments are counted from it
	flushes atomic.Uint32 // results of calls that began before the last Flush are not kept

	mu         sync.Mutex // held by writers; guards the fields below and keeps them consistent with nodes
	limit      int        // the limit of entries; at least 1
	bytesLimit int64
	count      int // the number of entries
	bytes      int64
	ring       []*node
	pointer    int // the last candidate for eviction
}

// weigh estimates how many bytes the node takes with Go 1.26 on 64 bits: with its places in the map and in the ring,
// and what the allocator adds to a string. The estimate is within a third of the truth.
func (n *node) weigh() int64 {
	const overhead = 24 + 80
	return overhead + int64(len(n.packed)) + int64(len(n.packed))/16
}

func newShard(stats *counters) *shard {
	return &shard{nodes: gocache.New(gocache.NoExpiration, 0), stats: stats, origin: time.Now()}
}

// node returns the node of a name, or nil.
func (s *shard) node(name string) *node {
	found, _ := s.nodes.Get(name)
	n, _ := found.(*node)
	return n
}

// get returns what is known about a canonical question at the current epoch, if anything, and the node of its name.
func (s *shard) get(q dns.Question, current dns.Epoch) (e entry, n *node) {
	name, wanted := locate(q)
	n = s.node(name)
	e = unknown(q)
	for k, packed := range n.entries {
		if k == wanted {
			e.unpack(q, packed, s.origin)
			e.removeVoid(current)
			break
		}
	}
	return e, n
}

// put stores a node in place of the earlier one of its name, or only removes that one if the new node has no entries.
// It evicts others if there is no room; s.mu is held. A single node is kept, however small the limit of entries is:
// nothing about its domain would be remembered otherwise.
func (s *shard) put(n *node) {
	if old := s.node(n.domain()); old != nil {
		n.slot = old.slot
		n.used.Store(old.used.Load())
		s.ring[n.slot] = n
		s.count -= old.count()
		s.bytes -= old.weigh()
	} else { // at the place that the pointer reaches last
		s.ring = append(s.ring, n)
		s.swap(len(s.ring)-1, min(s.pointer, len(s.ring)-1))
	}
	s.count += n.count()
	s.bytes += n.weigh()
	s.nodes.Set(n.domain(), n, gocache.NoExpiration)
	if n.count() == 0 {
		s.remove(n)
	}
	for s.count > s.limit && len(s.ring) > 1 || s.bytes > s.bytesLimit {
		s.evict(n)
	}
}

// remove removes a node; s.mu is held. The last node takes its place in the ring.
func (s *shard) remove(n *node) {
	last := len(s.ring) - 1
	s.swap(int(n.slot), last)
	s.ring = slices.Delete(s.ring, last, last+1)
	s.count -= n.count()
	s.bytes -= n.weigh()
	s.nodes.Delete(n.domain())
}

// swap exchanges two places of the ring; s.mu is held.
func (s *shard) swap(a, b int) {
	s.ring[a], s.ring[b] = s.ring[b], s.ring[a]
	s.ring[a].slot, s.ring[b].slot = int32(a), int32(b)
}

// evict removes one node, if possible not latest; s.mu is held and there is a node. After two rounds it takes any node,
// because concurrent hits could mark each one again before the pointer arrives.
func (s *shard) evict(latest *node) {
	for range 2 * len(s.ring) {
		s.pointer = (s.pointer + 1) % len(s.ring)
		if n := s.ring[s.pointer]; n != latest && !n.used.Swap(false) {
			break
		}
	}
	n := s.ring[s.pointer]
	s.stats.evicted.Add(uint64(n.count()))
	s.stats.changes.Add(1)
	s.remove(n)
}

// removeIf removes the entries for which f returns true, and returns their number. It blocks writers, but never hits.
func (s *shard) removeIf(epoch func() dns.Epoch, f func(*entry) bool) (removed int) {
	var e entry
	s.mu.Lock()
	defer s.mu.Unlock()
	current := epoch()
	for _, n := range slices.Backward(s.ring) { // the last node takes the place of a removed one
		for k, packed := range n.entries {
			q := n.question(k)
			e.unpack(q, packed, s.origin)
			e.removeVoid(current)
			if f(&e) {
				removed++
				s.put(s.nodeWith(q, nil))
			}
		}
	}
	return removed
}
