package dnscache

import (
	"encoding/binary"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// entry is what is known for a question at the present epoch: an answer, the failure of the last lookup, or both. It is
// a copy: change it and put it back.
type entry struct {
	dns.RRset               // the answer, without Records; if there is none, Status is Indeterminate
	data      string        // dns.RRset.Pack
	life      time.Duration // of the answer when it was stored
	warned    bool          // it has been logged that an insecure answer did not replace this one

	failed  bool // the last lookup failed; the fields below are about that
	failure dns.Error
	backOff time.Duration
	retry   time.Time // when the question may be asked again
}

// unknown returns the entry for a question about which nothing is known.
func unknown(q dns.Question) entry {
	return entry{RRset: dns.RRset{Name: q.Name, Owner: q.Name, Type: q.Type}}
}

// newEntry returns the entry for an answer to q that arrived then.
func newEntry(q dns.Question, r *dns.RRset, arrived time.Time) entry {
	e := entry{RRset: *r, data: r.Pack(), life: r.Expires.Sub(arrived).Round(time.Second)}
	e.Name, e.Type, e.Records = q.Name, q.Type, nil
	if r.Owner == r.Name {
		e.Owner = q.Name
	}
	return e
}

// answer returns the answer for callers.
func (e *entry) answer() *dns.RRset {
	r := e.RRset
	if e.data != "" {
		r.Unpack(e.data)
	}
	return &r
}

// tick is the unit of packed moments.
const tick = 100 * time.Millisecond

// flags returns what is packed into one octet, together with the status. alias is set if the owner is not the name.
func (e *entry) flags(alias *bool) [6]*bool {
	return [...]*bool{&e.NXDomain, &e.Stale, &e.warned, &e.failed, &e.failure.Bogus, alias}
}

// pack appends the entry with its key, and without its data, which come last. Most entries have neither a failure nor
// an owner, which then take no room. Moments are counted from origin.
func (e *entry) pack(b []byte, k key, origin time.Time) []byte {
	moment := func(t time.Time) uint64 { return uint64(max(t.Sub(origin), 0) / tick) }
	alias := e.Owner != e.Name
	flags := e.flags(&alias)
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
	if e.failed {
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

// unpack sets e to what pack has packed, without what is void at the present epoch: an answer of other servers or of
// another trust, and also a failure of an outage that has ended. A failure has the same dns.Epoch.Answers as the answer
// beside it.
func (e *entry) unpack(q dns.Question, s string, origin time.Time, present dns.Epoch) {
	*e = unknown(q)
	next := func() (n uint64) {
		n, s = dns.CutNumber(s)
		return n
	}
	next() // the key
	alias := false
	flags, bits := e.flags(&alias), s[0]
	for i, set := range flags {
		*set = bits>>i&1 == 1
	}
	e.Status, s = dns.Status(bits>>len(flags)), s[1:]
	e.Epoch, e.life = uint32(next()), time.Duration(next())*time.Second
	e.Expires = origin.Add(time.Duration(next()) * tick)
	if e.failed {
		e.failure.Question, e.failure.Epoch = q, dns.Epoch{Answers: e.Epoch, Failures: uint32(next())}
		e.backOff, e.retry = time.Duration(next())*tick, origin.Add(time.Duration(next())*tick)
		e.failure.Reason, s = dns.CutItem(s)
	}
	if alias {
		e.Owner, s = dns.CutItem(s)
	}
	e.data = s
	switch {
	case e.Epoch != present.Answers:
		*e = unknown(q)
	case e.failed && e.failure.Epoch != present:
		e.failed, e.failure, e.backOff, e.retry = false, dns.Error{}, 0, time.Time{}
	}
}

// confirms reports whether e has the same answer as old, for at least as long.
func (e *entry) confirms(old *entry) bool {
	same := e.RRset
	same.Expires = old.Expires
	return same == old.RRset && e.data == old.data && !e.Expires.Before(old.Expires)
}

// alive reports whether there is an answer that can be used.
func (e *entry) alive(now time.Time) bool { return now.Before(e.Expires) }

// waits reports whether the last lookup failed so recently that it is not tried again.
func (e *entry) waits(now time.Time) bool { return e.failed && now.Before(e.retry) }

// usable reports whether the answer can be used if the resolver fails: also for maxStale after it has expired, if it is
// secure and protects mail. A stale denial could take protection away (RFC 8767 section 10).
func (e *entry) usable(now time.Time) bool {
	protects := e.Status == dns.Secure && e.data != "" && (e.Type == dns.TypeMX || e.Type == dns.TypeTLSA)
	return e.alive(now) || protects && !e.Stale && now.Sub(e.Expires) <= maxStale
}

// dead reports whether nothing of the entry is of use any more. A failure is of use for a while after its back-off: the
// next back-off is then longer.
func (e *entry) dead(now time.Time) bool {
	return !e.usable(now) && (!e.failed || now.Sub(e.retry) > maxBackOff)
}
