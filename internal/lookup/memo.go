package lookup

import (
	"context"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
)

// memory keeps what was answered last to some keys together with the facts that led there. An answer is given
// again only where every single fact, asked for again in its cache, is still the very same: it saves the work
// of deciding and rendering, and never decides anything. Its size is fixed whatever strangers ask for.
type memory struct {
	slots [mapIDs][memorySlots]slot // first, so that a slot is a line of the processor's cache
	seed  maphash.Seed
}

// memorySlots are for each map. A memo takes about a kilobyte, so that all of them are some 24 MiB. What strangers put
// into their zones can make one larger, and keeps in memory what the cache has let go of: so there are bounds on
// the facts of a memo, and on the bytes of the answers among them and of its own.
const (
	memorySlots = 1 << 11
	ways        = 4
	mostFacts   = 48
	mostBytes   = 8 << 10
)

// slot has room for a few, so that keys in use that share one do not drive each other out. The hashes of the keys are
// beside the memos: to pass over one that is of another key takes no look at it. Hash and memo are not read at once, so
// one can be of another key than the other: then nothing is found.
type slot struct {
	hashes [ways]atomic.Uint64
	memos  [ways]atomic.Pointer[memo]
}

// find returns the memo for c, or nil.
func (s *slot) find(hash uint64, c call) *memo {
	for i := range s.memos {
		if s.hashes[i].Load() != hash {
			continue
		}
		if l := s.memos[i].Load(); l != nil && l.set == c.set && l.key == c.key {
			return l
		}
	}
	return nil
}

// put makes l the newest, in the place of one for the same key or of the oldest. A race can lose a memo, which costs time
// and nothing else.
func (s *slot) put(hash uint64, l *memo) {
	last := 0
	for ; last < ways-1; last++ {
		if old := s.memos[last].Load(); old == nil || old.key == l.key {
			break
		}
	}
	for i := last; i > 0; i-- {
		s.memos[i].Store(s.memos[i-1].Load())
		s.hashes[i].Store(s.hashes[i-1].Load())
	}
	s.memos[0].Store(l)
	s.hashes[0].Store(hash)
}

// memo is one answer. But for when its facts were looked at last, it is not changed. What a request needs stands first.
type memo struct {
	key string // with the text of the reply behind it in memory
	set *Settings
	// The facts are as they were: those of DNS while their cache is of that version, and until then; the others until then.
	version              atomic.Uint64
	dnsUntil, otherUntil atomic.Int64 // on the clock of the service
	answer               answered

	dns, others []fact        // dns are in the cache whose version tells when it changes
	expires     time.Duration // when the first of the DNS answers does; 0: there is none
}

// A look at the DNS answers holds for lookForDNS while nothing in their cache has changed: so short that the cache still
// learns which are in use, and renews them. Of the other facts nobody says when they change.
const (
	lookForDNS   = 2 * time.Second
	lookForOther = 250 * time.Millisecond
)

// same looks at the facts that were not looked at just now, and says whether all are what they were. Several requests may
// look at once and write down their looks in any order: a version is never that of an earlier time again, and no
// time is later than it may be for any of them.
func (l *memo) same(now time.Duration, version func() dnscache.Version) bool {
	if version == nil {
		return all(l.dns) && all(l.others)
	}
	if current := uint64(version()); current != l.version.Load() || int64(now) >= l.dnsUntil.Load() {
		if !all(l.dns) {
			return false
		}
		until := now + lookForDNS
		if l.expires != 0 {
			until = min(until, l.expires)
		}
		l.dnsUntil.Store(int64(until))
		l.version.Store(current)
	}
	if int64(now) >= l.otherUntil.Load() {
		if !all(l.others) {
			return false
		}
		l.otherUntil.Store(int64(now + lookForOther))
	}
	return true
}

func all(facts []fact) bool {
	for _, same := range facts {
		if !same() {
			return false
		}
	}
	return true
}

// fact says whether something is still as it was.
type fact func() bool

func newMemory() *memory { return &memory{seed: maphash.MakeSeed()} }

func (m *memory) slot(c call) (*slot, uint64) {
	hash := maphash.String(m.seed, c.key)
	return &m.slots[c.m][hash%memorySlots], hash
}

// recall returns the answer to c if it is the same as the last time, and nil otherwise. version is that of the cache of DNS
// answers, or nil.
func (m *memory) recall(c call, version func() dnscache.Version) *answered {
	slot, hash := m.slot(c)
	if last := slot.find(hash, c); last != nil && last.same(c.now, version) {
		return &last.answer
	}
	return nil
}

// keep remembers the answer to c, if r has seen all that led there and it is not too much. started is where the clock of the
// service begins.
func (m *memory) keep(c call, a *answered, r *recorder, started time.Time) {
	if r.incomplete || len(r.dns)+len(r.others) > mostFacts || r.bytes+len(a.reply.Text) > mostBytes {
		return
	}
	text := c.key + a.reply.Text
	l := &memo{key: text[:len(c.key)], set: c.set, answer: *a, dns: slices.Clone(r.dns), others: slices.Clone(r.others)}
	l.answer.reply.Text = text[len(c.key):]
	if !r.expires.IsZero() {
		l.expires = max(r.expires.Sub(started), 1)
	}
	slot, hash := m.slot(c)
	slot.put(hash, l)
}

// recorder passes questions on to the views that never wait, and notes the facts that come back.
type recorder struct {
	sources    *Sources
	sts        policy.STS
	site       policy.OwnSite
	dns        []fact
	expires    time.Time // of the DNS answers, the first
	bytes      int       // of the DNS answers
	others     []fact
	incomplete bool // something that failed, or is not in a cache, has led there too
}

// view is an Engine that sees the world through r.
func (r *recorder) view(set *Settings) policy.Engine {
	e := policy.Engine{Resolver: r, Overrides: set.Overrides}
	if r.sts != nil {
		e.STS = recordedSTS{r}
	}
	return e
}

// Lookup implements dns.Resolver.
func (r *recorder) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	e.CacheOnly = true
	cached := r.sources.Resolver
	found, err := cached.Lookup(ctx, q, e)
	if err != nil {
		r.incomplete = true
		return found, err
	}
	if r.expires.IsZero() || found.Expires.Before(r.expires) {
		r.expires = found.Expires
	}
	r.bytes += found.Size()
	r.dns = append(r.dns, func() bool {
		now, err := cached.Lookup(context.Background(), q, e)
		return err == nil && now == found
	})
	return found, nil
}

// recordedSTS is the policy.STS of a recorder.
type recordedSTS struct{ *recorder }

func (r recordedSTS) Lookup(ctx context.Context, domain string) mtasts.Result {
	cached := r.sts
	return r.noted(cached.Lookup(ctx, domain), func() mtasts.Result { return cached.Lookup(context.Background(), domain) })
}

// Announce implements policy.STS: this view asks nothing.
func (recordedSTS) Announce(string) {}

// Live implements policy.STS.
func (r recordedSTS) Live(domain string) mtasts.Result {
	cached := r.sts
	return r.noted(cached.Live(domain), func() mtasts.Result { return cached.Live(domain) })
}

// noted notes what was found, which again finds again.
func (r recordedSTS) noted(found mtasts.Result, again func() mtasts.Result) mtasts.Result {
	if found.State == mtasts.Unknown {
		r.incomplete = true
	}
	state, stale, id, failure, fetched, expires := found.State, found.Stale, found.ID, found.Failure, found.Fetched, found.Expires // and not all of it
	r.others = append(r.others, func() bool {
		now := again()
		return now.State == state && now.ID == id && now.Stale == stale && now.Failure == failure &&
			now.Fetched.Equal(fetched) && now.Expires.Equal(expires)
	})
	return found
}

// recordedProbes is the policy.Probes of a recorder.
type recordedProbes struct{ *recorder }

func (r recordedProbes) Verdict(host string) probe.Verdict {
	probes := r.sources.Probes
	found := probes.Verdict(host)
	r.others = append(r.others, func() bool { return probes.Verdict(host) == found })
	return found
}

// recordedSite is the policy.OwnSite of a recorder.
type recordedSite struct{ *recorder }

func (r recordedSite) Own(ctx context.Context, domain string) (bool, string, error) {
	site := r.site
	own, why, err := site.Own(ctx, domain)
	if err != nil {
		r.incomplete = true
	}
	r.others = append(r.others, func() bool {
		now, _, err := site.Own(context.Background(), domain)
		return err == nil && now == own
	})
	return own, why, err
}

func (r recordedSite) OwnHost(name string) bool {
	site := r.site
	own := site.OwnHost(name)
	r.others = append(r.others, func() bool { return site.OwnHost(name) == own })
	return own
}

func (r recordedSite) OwnAddr(a netip.Addr) bool {
	site := r.site
	own := site.OwnAddr(a)
	r.others = append(r.others, func() bool { return site.OwnAddr(a) == own })
	return own
}
