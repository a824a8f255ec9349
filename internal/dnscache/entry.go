package dnscache

import (
	"encoding/binary"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// instant is a moment: so many ticks after the start of the cache, rounded down. It lasts for 13 years.
type instant uint32

const tick = 100 * time.Millisecond

func ticks(d time.Duration) instant { return instant(max(d, 0) / tick) }

// entry is what is known for a question: an answer, the failure of the last lookup, or both. It is a copy: change it
// and put it back.
type entry struct {
	question dns.Question
	head
	owner string // dns.RRset.Owner, unless it is the name
	data  string // dns.RRset.Pack
	failure
	reason string
}

// head is of the answer.
type head struct {
	Status          dns.Status // Indeterminate if there is no answer
	NXDomain, Stale bool       // as in dns.RRset
	Warned          bool       // it has been logged that an insecure answer did not replace this one
	Failed          bool       // there is a failure
	Epoch, Life     uint32     // Life is that of the answer when it was stored, in seconds
	Expires         instant
}

// failure is of the last lookup, where head.Failed is set.
type failure struct {
	Bogus   bool
	Of      dns.Epoch
	BackOff uint32 // in seconds
	Retry   instant
}

// fields returns what is packed into one octet, together with the status, and what is packed as numbers.
func (e *entry) fields() (flags [5]*bool, numbers [7]*uint32) {
	return [...]*bool{&e.NXDomain, &e.Stale, &e.Warned, &e.Failed, &e.Bogus}, [...]*uint32{&e.Epoch, &e.Life,
		(*uint32)(&e.Expires), &e.Of.Answers, &e.Of.Failures, &e.BackOff, (*uint32)(&e.Retry)}
}

// pack returns the entry in one string, without its question.
func (e *entry) pack() string {
	flags, numbers := e.fields()
	b := []byte{byte(e.Status) << len(flags)}
	for i, set := range flags {
		if *set {
			b[0] |= 1 << i
		}
	}
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(*n))
	}
	return string(dns.AppendItem(dns.AppendItem(b, e.reason), e.owner)) + e.data
}

// unpack sets e to what pack has packed.
func (e *entry) unpack(q dns.Question, s string) {
	*e = entry{question: q}
	flags, numbers := e.fields()
	e.Status = dns.Status(s[0] >> len(flags))
	for i, set := range flags {
		*set = s[0]>>i&1 == 1
	}
	s = s[1:]
	for _, n := range numbers {
		value, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen32)]))
		*n, s = uint32(value), s[size:]
	}
	e.reason, s = dns.CutItem(s)
	e.owner, e.data = dns.CutItem(s)
}

// valid reports whether there is an answer, obtained from the present servers under the present trust.
func (e *entry) valid(now dns.Epoch) bool {
	return e.Status != dns.Indeterminate && e.Epoch == now.Answers
}

// confirms reports whether e has the same answer as old, for at least as long.
func (e *entry) confirms(old *entry) bool {
	return e != nil && e.Status == old.Status && e.NXDomain == old.NXDomain && e.Stale == old.Stale &&
		e.owner == old.owner && e.data == old.data && e.Expires >= old.Expires
}

// counts reports whether the last lookup failed, and not because of an outage that has ended.
func (e *entry) counts(now dns.Epoch) bool { return e.Failed && e.Of == now }

// alive reports whether the answer can be used.
func (e *entry) alive(now instant, g dns.Epoch) bool { return e.valid(g) && now < e.Expires }

// failed reports whether the last lookup failed so recently that it is not tried again.
func (e *entry) failed(now instant, g dns.Epoch) bool { return e.counts(g) && now < e.Retry }

// stale reports whether the answer, though expired, can be used if the resolver fails: for maxStale, if it is secure
// and protects mail. A stale denial could take protection away (RFC 8767 section 10).
func (e *entry) stale(now instant, g dns.Epoch) bool {
	protects := e.data != "" && (e.question.Type == dns.TypeMX || e.question.Type == dns.TypeTLSA)
	return e.valid(g) && e.Status == dns.Secure && !e.Stale && protects && now <= e.Expires+ticks(maxStale)
}

// dead reports whether nothing of the entry is of use any more. A failure is of use for a while after its back-off: the
// next back-off is then longer.
func (e *entry) dead(now instant, g dns.Epoch) bool {
	return !e.alive(now, g) && !e.stale(now, g) && (!e.counts(g) || now > e.Retry+ticks(maxBackOff))
}
