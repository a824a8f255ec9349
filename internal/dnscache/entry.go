package dnscache

import (
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// entry is what is known for one name and type. It is replaced and never changed, except for its marks. There are
// hundreds of thousands, so it is small: what few of them need is in aside.
type entry struct {
	rrset *dns.RRset // nil: only a failure is known
	aside *aside     // nil: the last lookup succeeded, and the answer has the name of the question
	life  uint32     // of the answer when it was stored, in seconds
	marks atomic.Uint32

	// The mutex of the shard guards these.
	slot  int32  // in the ring
	bytes uint32 // about what the entry takes in memory
}

// aside is what few entries need.
type aside struct {
	question dns.Question
	failure  *dns.Error // of the last lookup, nil if that succeeded
	backOff  time.Duration
	retry    time.Time // when a failure may be tried again
}

// The marks of an entry.
const (
	used       uint32 = 1 << iota // since the eviction pointer passed
	refreshing                    // it is being refreshed
	warned                        // it has been logged that an insecure answer did not replace this one
)

// newEntry returns the entry for an answer that arrived now.
func newEntry(q dns.Question, r *dns.RRset, now time.Time) *entry {
	e := &entry{rrset: r, life: uint32(r.Expires.Sub(now).Round(time.Second) / time.Second)}
	if r.Name != q.Name || r.Type != q.Type { // the name was escaped in an unusual way
		e.aside = &aside{question: q}
	}
	return e
}

// question returns the key of the entry.
func (e *entry) question() dns.Question {
	if e.aside != nil {
		return e.aside.question
	}
	return dns.Question{Name: e.rrset.Name, Type: e.rrset.Type}
}

// failure returns why the last lookup failed, or nil.
func (e *entry) failure() *dns.Error {
	if e.aside == nil {
		return nil
	}
	return e.aside.failure
}

// marked reports whether the entry has a mark.
func (e *entry) marked(m uint32) bool { return e.marks.Load()&m != 0 }

// mark sets a mark and reports whether it is new.
func (e *entry) mark(m uint32) bool { return e.marks.Or(m)&m == 0 }

// unmark removes a mark and reports whether it was set.
func (e *entry) unmark(m uint32) bool { return e.marks.And(^m)&m != 0 }

// use marks the entry as used. An untrusted lookup does not: a remote party could otherwise evict what this site needs.
func (e *entry) use(by dns.Effort) {
	if !by.Untrusted && !e.marked(used) {
		e.mark(used)
	}
}

// valid reports whether there is an answer, obtained from the present servers under the present trust.
func (e *entry) valid(now dns.Epoch) bool {
	return e.rrset != nil && e.rrset.Epoch == now.Answers
}

// counts reports whether the last lookup failed, and not because of an outage that has ended.
func (e *entry) counts(now dns.Epoch) bool {
	return e.failure() != nil && e.failure().Epoch == now
}

// alive reports whether the answer can be used.
func (e *entry) alive(now time.Time, g dns.Epoch) bool {
	return e.valid(g) && now.Before(e.rrset.Expires)
}

// failed reports whether the last lookup failed so recently that it is not tried again.
func (e *entry) failed(now time.Time, g dns.Epoch) bool {
	return e.counts(g) && now.Before(e.aside.retry)
}

// stale reports whether the answer, though expired, can be used if the resolver fails.
func (e *entry) stale(now time.Time, g dns.Epoch) bool {
	return e.valid(g) && servedStale(e.rrset) && !now.After(e.rrset.Expires.Add(maxStale))
}

// dead reports whether nothing of the entry is of use any more. A failure is of use for a while after its back-off: the
// next back-off is then longer.
func (e *entry) dead(now time.Time, g dns.Epoch) bool {
	return !e.alive(now, g) && !e.stale(now, g) && (!e.counts(g) || now.After(e.aside.retry.Add(maxBackOff)))
}

// weigh estimates how many bytes the entry takes with Go 1.26 on 64 bits. The estimate is within a third of the truth.
func (e *entry) weigh() int64 {
	const (
		overhead = 32 + 72 // entry, and its places in the map and in the ring
		failure  = 64 + 64
	)
	n := overhead
	if e.aside != nil {
		n += failure + len(e.aside.question.Name)
	}
	if f := e.failure(); f != nil {
		n += len(f.Reason)
	}
	if e.rrset != nil {
		n += e.rrset.Size()
	}
	return int64(n)
}
