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
	slot   int32       // in the ring; the mutex of the shard guards it
	used   atomic.Bool // since the eviction pointer passed
}

// prefixes are the beginnings of names that share the node of the name that follows. The list is fixed, so a remote
// party cannot make a node grow.
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

func (n *node) count() (entries int) {
	for range n.entries {
		entries++
	}
	return entries
}

// with returns a node for the question, with e in place of its earlier entry, or without an entry if e is nil; s.mu is
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

// tick is the unit of packed moments.
const tick = 100 * time.Millisecond

// flags returns what is packed into one octet, together with the status. failed is set if there is a failure, and alias
// if the owner is not the name.
func (e *entry) flags(failed, alias *bool) [6]*bool {
	return [...]*bool{&e.NXDomain, &e.Stale, &e.warned, failed, &e.failure.Bogus, alias}
}

// pack appends the entry with its key, but without its data, which come last. Most entries have neither a failure nor
// an owner of another name; these then take no room. Moments are counted from origin.
func (e *entry) pack(b []byte, k key, origin time.Time) []byte {
	moment := func(t time.Time) uint64 { return uint64(max(t.Sub(origin), 0) / tick) }
	failed, alias := e.backOff > 0, e.Owner != e.Name
	flags := e.flags(&failed, &alias)
	bits := byte(e.Status) << len(flags)
	for i, set := range flags {
		if *set {
			bits |= 1 << i
		}
	}
	b = append(binary.AppendUvarint(b, uint64(k)), bits)
	b = binary.AppendUvarint(b, uint64(e.Epoch))
	b = binary.AppendUvarint(b, uint64(e.life/time.Second))
	b = binary.AppendUvarint(b, moment(e.Expires))
	if failed {
		b = binary.AppendUvarint(b, uint64(e.failure.Epoch.Failures))
		b = binary.AppendUvarint(b, uint64(e.backOff/tick))
		b = binary.AppendUvarint(b, moment(e.retry))
		b = dns.AppendItem(b, nil, e.failure.Reason)
	}
	if alias {
		b = dns.AppendItem(b, nil, e.Owner)
	}
	return b
}

// unpack sets e to what pack has packed. A failure has the same dns.Epoch.Answers as the answer beside it.
func (e *entry) unpack(q dns.Question, s string, origin time.Time) {
	*e = unknown(q)
	next := func() (n uint64) {
		n, s = dns.CutNumber(s)
		return n
	}
	next() // the key
	var failed, alias bool
	flags, bits := e.flags(&failed, &alias), s[0]
	for i, set := range flags {
		*set = bits>>i&1 == 1
	}
	e.Status, s = dns.Status(bits>>len(flags)), s[1:]
	e.Epoch, e.life = uint32(next()), time.Duration(next())*time.Second
	e.Expires = origin.Add(time.Duration(next()) * tick)
	if failed {
		e.failure.Question, e.failure.Epoch = q, dns.Epoch{Answers: e.Epoch, Failures: uint32(next())}
		e.backOff, e.retry = time.Duration(next())*tick, origin.Add(time.Duration(next())*tick)
		e.failure.Reason, s = dns.CutItem(s)
	}
	if alias {
		e.Owner, s = dns.CutItem(s)
	}
	e.data = s
}
