package dnscache

import (
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// entry is what is known about a question at the current epoch: an answer, the failure of the last lookup, or both. It
// is a copy: a change has no effect until the entry is stored.
type entry struct {
	dns.RRset               // the answer, without Records; if there is none, Status is Indeterminate
	data      string        // dns.RRset.Pack
	ttl       time.Duration // the TTL when the answer was stored, in whole seconds
	warned    bool          // it has been logged that an insecure answer did not replace this one

	failure dns.Error     // the failure of the last lookup
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

// removeVoid removes what is void at the current epoch: an answer obtained from other servers or under another trust
// setting, and also a failure from an outage that has ended.
func (e *entry) removeVoid(current dns.Epoch) {
	switch {
	case e.Epoch != current.Answers:
		*e = unknown(dns.Question{Name: e.Name, Type: e.Type})
	case e.failure.Epoch != current:
		e.failure, e.backOff, e.retry = dns.Error{}, 0, time.Time{}
	}
}

// confirms reports whether e has the same answer as old, for at least as long.
func (e *entry) confirms(old *entry) bool {
	same := e.RRset
	same.Expires = old.Expires
	return same == old.RRset && e.data == old.data && !e.Expires.Before(old.Expires)
}

// live reports whether there is an answer that has not expired.
func (e *entry) live(now time.Time) bool { return now.Before(e.Expires) }

// inBackOff reports whether the last lookup failed so recently that it is not tried again.
func (e *entry) inBackOff(now time.Time) bool { return now.Before(e.retry) }

// liveOrStale reports whether the answer can be used if the resolver fails: while it is live, and for maxStale after
// that if it is secure and protects mail. A stale denial could take protection away (RFC 8767 section 10).
func (e *entry) liveOrStale(now time.Time) bool {
	protects := e.Status == dns.Secure && e.data != "" && (e.Type == dns.TypeMX || e.Type == dns.TypeTLSA)
	return e.live(now) || protects && !e.Stale && now.Sub(e.Expires) <= maxStale
}

// removable reports whether neither the answer nor the failure can be used any more. A failure is kept for maxBackOff
// after its back-off, so that the next back-off is longer.
func (e *entry) removable(now time.Time) bool {
	return !e.liveOrStale(now) && now.Sub(e.retry) > maxBackOff
}

// store keeps the result of a lookup: failure, or the answer r if failure is nil. It returns the answer that callers
// receive, or nil if they receive the failure. A failure is kept beside an answer that is live or may be served stale.
// Only a fresh secure answer replaces a live secure answer. Any result replaces everything else. The result of a call
// that began at another number of flushes is not kept.
func (c *Cache) store(q dns.Question, r *dns.RRset, failure *dns.Error, flushes uint32) *dns.RRset {
	s := c.shardOf(q)
	s.mu.Lock() // before the epoch is read, so that no entry is of a later epoch
	defer s.mu.Unlock()
	flushed := s.flushes.Load() != flushes
	if failure != nil {
		return c.keepFailure(s, q, failure, flushed)
	}
	return c.keepAnswer(s, q, r, flushed)
}

func (c *Cache) keepFailure(s *shard, q dns.Question, failure *dns.Error, flushed bool) *dns.RRset {
	now, epoch := time.Now(), c.options.Epoch()
	if failure.Bogus {
		c.stats.bogus.Add(1)
	} else {
		c.stats.failed.Add(1)
	}
	e, _ := s.get(q, epoch)
	usable := e.liveOrStale(now)
	if failure.Epoch == epoch && !flushed { // otherwise it is void already
		backOff := max(minBackOff, min(2*e.backOff, maxBackOff))
		if !usable {
			e = unknown(q)
		}
		e.Epoch, e.failure, e.backOff, e.retry = epoch.Answers, *failure, backOff, now.Add(backOff)
		s.put(s.nodeWith(q, &e))
	}
	switch {
	case !usable:
		return nil
	case !e.live(now):
		c.stats.stale.Add(1)
	}
	return e.answer()
}

func (c *Cache) keepAnswer(s *shard, q dns.Question, r *dns.RRset, flushed bool) *dns.RRset {
	now, epoch := time.Now(), c.options.Epoch()
	c.stats.answers[r.Status].Add(1)
	old, _ := s.get(q, epoch)
	contradicted := old.Status == dns.Secure && r.Status != dns.Secure
	if contradicted && c.options.Contradicted != nil {
		c.options.Contradicted()
	}
	if old.live(now) && old.Status == dns.Secure && (r.Status != dns.Secure || r.Stale) {
		c.stats.kept.Add(1)
		if contradicted && !old.warned {
			old.warned = true
			s.put(s.nodeWith(q, &old))
			c.options.Logger.Warn("keeping a secure answer although an insecure one arrived",
				"name", q.Name, "type", q.Type.String(), "expires", old.Expires)
		}
		return old.answer()
	}
	r = capped(r, now)
	if r.Epoch == epoch.Answers && !flushed { // otherwise it is void already
		s.replace(q, &old, r, now)
	}
	return r
}

// replace puts an answer in place of an entry; s.mu is held. An answer that has expired or is too large is not kept.
func (s *shard) replace(q dns.Question, old *entry, r *dns.RRset, now time.Time) {
	e := entry{RRset: *r, data: r.Pack(), ttl: r.Expires.Sub(now).Round(time.Second)}
	e.Records = nil
	n := s.nodeWith(q, &e)
	keeps := now.Before(r.Expires) && n.weigh() <= s.bytesLimit/4 // a larger node would evict many others
	if !keeps {
		n = s.nodeWith(q, nil)
	}
	s.put(n)
	if old.live(now) && (!keeps || !e.confirms(old)) {
		s.stats.changes.Add(1)
	}
}
