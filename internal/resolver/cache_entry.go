package resolver

import (
	"sync/atomic"
	"time"
)

// entry is what is known for one name and type. It is replaced and not changed, but for its flags.
type entry struct {
	question   Question
	rrset      *RRset // nil: nothing but a failure is known
	stored     time.Time
	failure    *Error // of the last lookup, nil if that succeeded
	backOff    time.Duration
	retry      time.Time // before, a failure is not tried again
	generation Generation

	used       atomic.Bool // since the hand of the clock passed
	refreshing atomic.Bool

	// The mutex of the shard guards these.
	slot   int   // in the ring
	bytes  int64 // about what the entry takes in memory
	warned bool  // that an insecure answer did not displace this one
}

// use marks the entry as one that is wanted. Strangers want nothing: with their questions they could push out what this
// site needs.
func (e *entry) use(q Question) {
	if !q.Passive && !e.used.Load() {
		e.used.Store(true)
	}
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

// dead says that nothing of the entry is of use any more. A failure is of use for a while after its back-off: the next
// one then takes longer.
func (e *entry) dead(now time.Time, g Generation) bool {
	return !e.alive(now, g) && !e.stale(now, g) && (e.failure == nil || e.generation != g || now.After(e.retry.Add(maxBackOff)))
}

// weigh estimates what the entry takes in memory: with Go 1.26 on 64 bits, and within a third of the truth.
func (e *entry) weigh() int64 {
	const (
		overhead = 144 + 64 // entry, and its places in the map and in the ring
		answer   = 232
		failure  = 128
		mx       = 24
		addr     = 24
		tlsa     = 32
		text     = 16
	)
	n := overhead + len(e.question.Name)
	if e.failure != nil {
		n += failure + len(e.failure.Reason)
	}
	if r := e.rrset; r != nil {
		n += answer + len(r.Name) + len(r.Owner) + mx*len(r.MX) + addr*len(r.Addrs) + tlsa*len(r.TLSA) + text*(len(r.TXT)+len(r.Names))
		for i := range r.MX {
			n += len(r.MX[i].Host)
		}
		for i := range r.TLSA {
			n += len(r.TLSA[i].Data)
		}
		for _, s := range r.TXT {
			n += len(s)
		}
		for _, s := range r.Names {
			n += len(s)
		}
	}
	return int64(n)
}
