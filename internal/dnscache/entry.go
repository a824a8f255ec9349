package dnscache

import (
	"encoding/binary"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// entry is what is known for a question: an answer, the failure of the last lookup, or both. It is a copy: change it
// and put it back. Moments are counted from Cache.origin.
type entry struct {
	question        dns.Question
	status          dns.Status    // Indeterminate if there is no answer
	nxdomain, stale bool          // as in dns.RRset
	warned          bool          // it has been logged that an insecure answer did not replace this one
	epoch           dns.Epoch     // of the answer, and of the failure
	life            time.Duration // of the answer when it was stored
	expires         time.Duration
	owner           string // dns.RRset.Owner, unless it is the name
	data            string // dns.RRset.Pack

	failed, bogus bool // the last lookup failed; the fields below are about that
	backOff       time.Duration
	retry         time.Duration // when the question may be asked again
	reason        string
}

// tick is the unit of packed moments.
const tick = 100 * time.Millisecond

// flags returns what is packed into one octet, together with the status. alias is set if there is an owner.
func (e *entry) flags(alias *bool) [6]*bool {
	return [...]*bool{&e.nxdomain, &e.stale, &e.warned, &e.failed, &e.bogus, alias}
}

// pack appends the entry with its key, and without its data, which come last. Most entries have neither a failure nor
// an owner, which then take no room.
func (e *entry) pack(b []byte, k key) []byte {
	alias := e.owner != ""
	flags := e.flags(&alias)
	bits := byte(e.status) << len(flags)
	for i, set := range flags {
		if *set {
			bits |= 1 << i
		}
	}
	b = append(binary.AppendUvarint(b, uint64(k)), bits)
	b = binary.AppendUvarint(b, uint64(e.epoch.Answers))
	b = binary.AppendUvarint(b, uint64(e.life/time.Second))
	b = binary.AppendUvarint(b, uint64(e.expires/tick))
	if e.failed {
		b = binary.AppendUvarint(b, uint64(e.epoch.Failures))
		b = binary.AppendUvarint(b, uint64(e.backOff/tick))
		b = binary.AppendUvarint(b, uint64(e.retry/tick))
		b = dns.AppendItem(b, nil, e.reason)
	}
	if alias {
		b = dns.AppendItem(b, nil, e.owner)
	}
	return b
}

// unpack sets e to what pack has packed.
func (e *entry) unpack(q dns.Question, s string) {
	*e = entry{question: q}
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
	e.status, s = dns.Status(bits>>len(flags)), s[1:]
	e.epoch.Answers = uint32(next())
	e.life, e.expires = time.Duration(next())*time.Second, time.Duration(next())*tick
	if e.failed {
		e.epoch.Failures = uint32(next())
		e.backOff, e.retry = time.Duration(next())*tick, time.Duration(next())*tick
		e.reason, s = dns.CutItem(s)
	}
	if alias {
		e.owner, s = dns.CutItem(s)
	}
	e.data = s
}

// valid reports whether there is an answer, obtained from the present servers under the present trust.
func (e *entry) valid(now dns.Epoch) bool {
	return e.status != dns.Indeterminate && e.epoch.Answers == now.Answers
}

// confirms reports whether e has the same answer as old, for at least as long.
func (e *entry) confirms(old *entry) bool {
	return e.status == old.status && e.nxdomain == old.nxdomain && e.stale == old.stale &&
		e.owner == old.owner && e.data == old.data && e.expires >= old.expires
}

// counts reports whether the last lookup failed, and not because of an outage that has ended.
func (e *entry) counts(now dns.Epoch) bool { return e.failed && e.epoch == now }

// alive reports whether the answer can be used.
func (e *entry) alive(now time.Duration, g dns.Epoch) bool { return e.valid(g) && now < e.expires }

// waits reports whether the last lookup failed so recently that it is not tried again.
func (e *entry) waits(now time.Duration, g dns.Epoch) bool { return e.counts(g) && now < e.retry }

// usable reports whether the answer can be used if the resolver fails: also for maxStale after it has expired, if it is
// secure and protects mail. A stale denial could take protection away (RFC 8767 section 10).
func (e *entry) usable(now time.Duration, g dns.Epoch) bool {
	protects := e.data != "" && (e.question.Type == dns.TypeMX || e.question.Type == dns.TypeTLSA)
	return e.alive(now, g) ||
		e.valid(g) && e.status == dns.Secure && !e.stale && protects && now <= e.expires+maxStale
}

// dead reports whether nothing of the entry is of use any more. A failure is of use for a while after its back-off: the
// next back-off is then longer.
func (e *entry) dead(now time.Duration, g dns.Epoch) bool {
	return !e.usable(now, g) && (!e.counts(g) || now > e.retry+maxBackOff)
}
