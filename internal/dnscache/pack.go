package dnscache

import (
	"encoding/binary"
	"strings"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// node holds the entries of a name, and of the names that are always looked up with it, in one string: a cache of many
// domains would otherwise consist of pointers and map slots. It is replaced, never changed, except for slot and used.
type node struct {
	packed string      // the name, and then the entries, each with its length in front
	slot   int32       // its index in the ring; the mutex of the shard guards it
	used   atomic.Bool // used since the eviction pointer last passed it
}

// nodeLabels are the leading labels of names that share the node of the name that follows. The list is fixed, so a
// remote party cannot make a node grow.
var nodeLabels = [...]string{"", "_25._tcp.", "_26._tcp.", "_mta-sts.", "mta-sts."}

// key distinguishes the entries of a node, by the type and the index in nodeLabels.
type key uint32

// locate returns the name of the node for a question, and its key there.
func locate(q dns.Question) (name string, k key) {
	at := 0
	for i, labels := range nodeLabels {
		if strings.HasPrefix(q.Name, labels) {
			at = i
		}
	}
	return q.Name[len(nodeLabels[at]):], key(q.Type)*key(len(nodeLabels)) + key(at)
}

func (n *node) domain() string {
	name, _ := dns.CutItem(n.packed)
	return name
}

func (n *node) question(k key) dns.Question {
	const perType = key(len(nodeLabels))
	return dns.Question{Name: nodeLabels[k%perType] + n.domain(), Type: dns.Type(k / perType)}
}

// entries calls f with the key of each entry, and with the packed entry, until f returns false. A nil node has none.
func (n *node) entries(f func(k key, packed string) bool) {
	if n == nil {
		return
	}
	item := ""
	for _, rest := dns.CutItem(n.packed); rest != ""; {
		item, rest = dns.CutItem(rest)
		if k, _ := dns.CutNumber(item); !f(key(k), item) {
			return
		}
	}
}

func (n *node) count() (entries int) {
	for range n.entries {
		entries++
	}
	return entries
}

// nodeWith returns a new node for the name of a question, with e in place of the entry for the question, or without one
// if e is nil; s.mu is held.
func (s *shard) nodeWith(q dns.Question, e *entry) *node {
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

// packedUnit is the unit of packed moments.
const packedUnit = 100 * time.Millisecond

// The bits of the flags in a number that has the status in its lowest two bits. The failed bit is set if there is a
// failure, and the alias bit if the owner is not the name.
const bitNXDomain, bitStale, bitWarned, bitFailed, bitBogus, bitAlias = 2, 3, 4, 5, 6, 7

// pack appends the entry with its key, but without its data, which come last. Most entries have neither a failure nor
// an owner of another name; these then take no room. Moments are counted from origin.
func (e *entry) pack(b []byte, k key, origin time.Time) []byte {
	moment := func(t time.Time) uint64 { return uint64(max(t.Sub(origin), 0) / packedUnit) }
	failed, alias := e.backOff > 0, e.Owner != e.Name
	flags := uint64(e.Status)
	for bit, set := range [...]bool{
		bitNXDomain: e.NXDomain, bitStale: e.Stale, bitWarned: e.warned,
		bitFailed: failed, bitBogus: e.failure.Bogus, bitAlias: alias,
	} {
		if set {
			flags |= 1 << bit
		}
	}
	b = binary.AppendUvarint(b, uint64(k))
	b = binary.AppendUvarint(b, flags)
	b = binary.AppendUvarint(b, uint64(e.Epoch))
	b = binary.AppendUvarint(b, uint64(e.ttl/time.Second))
	b = binary.AppendUvarint(b, moment(e.Expires))
	if failed {
		b = binary.AppendUvarint(b, uint64(e.failure.Epoch.Failures))
		b = binary.AppendUvarint(b, uint64(e.backOff/packedUnit))
		b = binary.AppendUvarint(b, moment(e.retry))
		b = dns.AppendItem(b, nil, e.failure.Reason)
	}
	if alias {
		b = dns.AppendItem(b, nil, e.Owner)
	}
	return b
}

// unpack sets e to the entry that pack has packed. A failure has the same dns.Epoch.Answers as the answer beside it.
func (e *entry) unpack(q dns.Question, s string, origin time.Time) {
	*e = unknown(q)
	next := func() (n uint64) {
		n, s = dns.CutNumber(s)
		return n
	}
	next() // the key
	flags := next()
	has := func(bit int) bool { return flags>>bit&1 == 1 }
	e.Status, e.NXDomain, e.Stale, e.warned = dns.Status(flags&3), has(bitNXDomain), has(bitStale), has(bitWarned)
	e.Epoch, e.ttl = uint32(next()), time.Duration(next())*time.Second
	e.Expires = origin.Add(time.Duration(next()) * packedUnit)
	if has(bitFailed) {
		e.failure.Question, e.failure.Bogus = q, has(bitBogus)
		e.failure.Epoch = dns.Epoch{Answers: e.Epoch, Failures: uint32(next())}
		e.backOff, e.retry = time.Duration(next())*packedUnit, origin.Add(time.Duration(next())*packedUnit)
		e.failure.Reason, s = dns.CutItem(s)
	}
	if has(bitAlias) {
		e.Owner, s = dns.CutItem(s)
	}
	e.data = s
}
