package dnscache

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"

	"github.com/policyd/policyd/internal/dns"
)

// shard holds a part of the nodes. A go-cache instance holds them by name; it is used without expiry and without
// janitor. The ring holds the same nodes for eviction by the CLOCK algorithm: if the shard is full, the pointer skips
// nodes that were used since its last round and evicts the first that was not. So the bound is hard, and names in use
// survive a flood of others.
type shard struct {
	nodes *gocache.Cache
	stats *counters
	// origin is what the moments of entries are counted from.
	origin time.Time

	mu         sync.Mutex // of writers; guards what follows and keeps it in step with nodes
	limit      int        // of entries, at least 1
	bytesLimit int64
	count      int // of entries
	bytes      int64
	ring       []*node
	pointer    int // the next candidate for eviction
}

// node holds the entries of a name, and of the names that are always looked up with it, in one string: a cache of many
// domains would otherwise consist of pointers and map slots. It is replaced and never changed, except for used.
type node struct {
	packed string      // the name, and then the entries, each with its length in front
	slot   int32       // in the ring; the mutex of the shard guards it
	used   atomic.Bool // since the eviction pointer passed
}

// prefixes are of the names that share the node of the name behind them. The list is closed, so a remote party cannot
// make a node grow.
var prefixes = [...]string{"", "_25._tcp.", "_26._tcp.", "_mta-sts.", "mta-sts."}

// key tells the entries of a node apart, by the type and the index of the prefix.
type key uint32

// locate returns the name of the node for a question, and its key there.
func locate(q dns.Question) (name string, k key) {
	at := 0
	for i, p := range prefixes {
		if strings.HasPrefix(q.Name, p) {
			at = i
		}
	}
	return q.Name[len(prefixes[at]):], key(q.Type)*key(len(prefixes)) + key(at)
}

func (n *node) domain() string {
	name, _ := dns.CutItem(n.packed)
	return name
}

func (n *node) question(k key) dns.Question {
	const step = key(len(prefixes))
	return dns.Question{Name: prefixes[k%step] + n.domain(), Type: dns.Type(k / step)}
}

// entries calls f with the key of each entry, and with the packed entry, until f returns false. A nil node has none.
func (n *node) entries(f func(k key, packed string) bool) {
	if n == nil {
		return
	}
	e := ""
	for _, rest := dns.CutItem(n.packed); rest != ""; {
		e, rest = dns.CutItem(rest)
		if k, _ := dns.CutNumber(e); !f(key(k), e) {
			return
		}
	}
}

// use marks the node as used. An untrusted lookup does not: a remote party could otherwise evict what this site needs.
func (n *node) use(by dns.Effort) {
	if !by.Untrusted && !n.used.Load() {
		n.used.Store(true)
	}
}

func (n *node) count() (entries int) {
	for range n.entries {
		entries++
	}
	return entries
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

// get returns the entry for a canonical question, which is neither an answer nor a failure if nothing is known at the
// present epoch, and the node of its name.
func (s *shard) get(q dns.Question, present dns.Epoch) (e entry, n *node) {
	name, wanted := locate(q)
	n = s.node(name)
	e = unknown(q)
	for k, packed := range n.entries {
		if k == wanted {
			e.unpack(q, packed, s.origin, present)
			break
		}
	}
	return e, n
}

// with returns the node for a question, with e in place of what is known for it, and without it if e is nil; s.mu is
// held.
func (s *shard) with(q dns.Question, e *entry) *node {
	name, mine := locate(q)
	b, head := dns.AppendItem(make([]byte, 0, 512), nil, name), make([]byte, 0, 256) // on the stack
	for k, packed := range s.node(name).entries {
		if k != mine {
			b = dns.AppendItem(b, nil, packed)
		}
	}
	if e != nil {
		b = dns.AppendItem(b, e.pack(head, mine, s.origin), e.data)
	}
	return &node{packed: string(b)}
}

// put stores a node in place of the one of its name, or only removes that if the new one has no entries. It evicts
// others if there is no room; s.mu is held. A single node is kept, however small the limit of entries is: nothing of
// its domain would be remembered otherwise.
func (s *shard) put(n *node) {
	name := n.domain()
	if old := s.node(name); old != nil {
		n.used.Store(old.used.Load())
		s.drop(old)
	}
	if entries := n.count(); entries > 0 {
		n.slot = int32(len(s.ring))
		s.ring = append(s.ring, n)
		s.count += entries
		s.bytes += n.weigh()
		s.nodes.Set(name, n, gocache.NoExpiration)
	} else {
		s.nodes.Delete(name)
	}
	for s.count > s.limit && len(s.ring) > 1 || s.bytes > s.bytesLimit {
		s.evict(n)
	}
}

// drop takes a node out of the ring; s.mu is held. The last one takes its place.
func (s *shard) drop(n *node) {
	last := len(s.ring) - 1
	s.ring[n.slot] = s.ring[last]
	s.ring[n.slot].slot = n.slot
	s.ring = slices.Delete(s.ring, last, last+1)
	s.count -= n.count()
	s.bytes -= n.weigh()
}

// evict removes one node, if possible another than latest; s.mu is held and there is a node. After two rounds it takes
// any node, because concurrent hits could mark each one again before the pointer arrives.
func (s *shard) evict(latest *node) {
	for steps := 0; ; steps++ {
		s.pointer = (s.pointer + 1) % len(s.ring)
		n := s.ring[s.pointer]
		if n != latest && !n.used.Swap(false) || steps > 2*len(s.ring) {
			s.stats.evicted.Add(uint64(n.count()))
			s.stats.changes.Add(1)
			s.drop(n)
			s.nodes.Delete(n.domain())
			return
		}
	}
}

// removeIf removes the entries for which f returns true, and returns their number. It blocks writers of this shard, and
// never hits.
func (s *shard) removeIf(present dns.Epoch, f func(*entry) bool) (removed int) {
	var e entry
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range slices.Backward(s.ring) { // the last node takes the place of one that goes
		for k, packed := range n.entries {
			q := n.question(k)
			if e.unpack(q, packed, s.origin, present); f(&e) {
				removed++
				s.put(s.with(q, nil))
			}
		}
	}
	return removed
}
