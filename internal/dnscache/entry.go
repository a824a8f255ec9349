package dnscache

import (
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// entry is what is known about a question at the present epoch: an answer, the failure of the last lookup, or both. It
// is a copy: change it and put it back.
type entry struct {
	dns.RRset               // the answer, without Records; if there is none, Status is Indeterminate
	data      string        // dns.RRset.Pack
	life      time.Duration // of the answer when it was stored
	warned    bool          // it has been logged that an insecure answer did not replace this one

	failure dns.Error     // of the last lookup
	backOff time.Duration // 0: the last lookup did not fail
	retry   time.Time     // when the question may be asked again
}

// unknown returns the entry for a question about which nothing is known.
func unknown(q dns.Question) entry {
	return entry{RRset: dns.RRset{Name: q.Name, Owner: q.Name, Type: q.Type}}
}

// answer returns the answer for callers.
func (e *entry) answer() *dns.RRset {
	r := e.RRset
	if e.data != "" {
		r.Unpack(e.data)
	}
	return &r
}

// forget removes everything but the question.
func (e *entry) forget() { *e = unknown(dns.Question{Name: e.Name, Type: e.Type}) }

// fail notes the failure of a lookup beside an answer that may still be of use. The question is not asked again for
// minBackOff, and after each further failure for twice as long.
func (e *entry) fail(f *dns.Error, now time.Time) {
	backOff := max(minBackOff, min(2*e.backOff, maxBackOff))
	if !e.usable(now) {
		e.forget()
	}
	e.Epoch, e.failure, e.backOff, e.retry = f.Epoch.Answers, *f, backOff, now.Add(backOff)
}

// removeVoid removes what is void at the present epoch: an answer of other servers or of another trust, and also a
// failure of an outage that has ended.
func (e *entry) removeVoid(present dns.Epoch) {
	switch {
	case e.Epoch != present.Answers:
		e.forget()
	case e.failure.Epoch != present:
		e.failure, e.backOff, e.retry = dns.Error{}, 0, time.Time{}
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
func (e *entry) waits(now time.Time) bool { return now.Before(e.retry) }

// usable reports whether the answer can be used if the resolver fails: also for maxStale after it has expired, if it is
// secure and protects mail. A stale denial could take protection away (RFC 8767 section 10).
func (e *entry) usable(now time.Time) bool {
	protects := e.Status == dns.Secure && e.data != "" && (e.Type == dns.TypeMX || e.Type == dns.TypeTLSA)
	return e.alive(now) || protects && !e.Stale && now.Sub(e.Expires) <= maxStale
}

// dead reports whether nothing of the entry is of use any more. A failure is of use for a while after its back-off: the
// next back-off is then longer.
func (e *entry) dead(now time.Time) bool {
	return !e.usable(now) && now.Sub(e.retry) > maxBackOff
}
