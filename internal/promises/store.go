package promises

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/statedb"
)

// MaxDomains bounds the memory. One domain takes about 130 bytes.
const MaxDomains = 100_000

// Mode determines what happens when an unsigned promise disappears. It is the setting promises.vanished.
type Mode string

// The modes. The zero value behaves like Alert.
const (
	Off   Mode = "off"   // promises are not recorded
	Alert Mode = "alert" // one warning, and mail is sent by the new answer
	Hold  Mode = "hold"  // in addition mail waits for at most HoldFor
)

// Options of a Store.
type Options struct {
	StateDir string           // has promises.db, which survives restarts; "" keeps promises in memory only
	Log      *slog.Logger     // gets one WARN when a promise vanishes; nil logs nothing
	Now      func() time.Time // the clock; nil means time.Now
	Max      int              // the largest number of domains; 0 means MaxDomains
	// Seen, if not nil, is called after a promise was seen on a new day, with a lock held: it must return immediately.
	Seen func(domain string)
	// Withdrawn is called in the same way after an authentic answer has ended the promises of a domain.
	Withdrawn func(domain string)
}

// Store remembers promises. All methods may be called concurrently, and none of them waits for the disk.
type Store struct {
	o        Options
	began    time.Time
	table    *statedb.Table[record]
	vanished uint64 // guarded by the lock of table
}

// New returns a store with what is in o.StateDir. A state directory that cannot be used is not an error: a warning is
// logged, and the store tries again while Run runs.
func New(o Options) *Store {
	o.Log, o.Max = cmp.Or(o.Log, slog.New(slog.DiscardHandler)), cmp.Or(o.Max, MaxDomains)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{o: o, began: o.Now(), table: statedb.New(statedb.Options[record]{
		Dir: o.StateDir, Name: "promises.db", Bucket: "promises-1", Log: o.Log,
		Max: o.Max, LastUse: func(r record) int64 { return int64(r.last()) },
		Encode: func(r record) []byte { return encode(r.saved()) }, Decode: decodeRecord,
	})}
}

// Run writes changes to the state directory until ctx ends, and then writes what is left.
func (s *Store) Run(ctx context.Context) error {
	return errors.Join(s.table.Run(ctx), s.table.Close())
}

// History is what is remembered about a domain, as a fact for a decision. The zero value remembers nothing.
type History struct {
	Kinds    []Kind    `json:"-"`                   // the promises seen on at least three of the last thirty days
	Days     int       `json:"-"`                   // the largest number of days on which one of Kinds was seen
	Last     Day       `json:"-"`                   // the latest day on which one of Kinds was seen
	Holdable bool      `json:"may_hold"`            // an answer without any promise may be held back now
	Until    time.Time `json:"held_until,omitzero"` // when a running hold ends; zero means that no hold is running
}

// History returns what is remembered about a domain, which is in lower case and without the final dot.
func (s *Store) History(domain string) History {
	r := s.table.Get(domain)
	if r == (record{}) {
		return History{}
	}
	return r.history(s.o.Now())
}

func (r *record) history(now time.Time) History {
	h := History{Kinds: r.established(DayOf(now)), Holdable: r.holdable(now)}
	for i, k := range Kinds() {
		if slices.Contains(h.Kinds, k) {
			h.Days, h.Last = max(h.Days, int(r.seen[i].Days)), max(h.Last, r.seen[i].Last)
		}
	}
	if r.holding(now) {
		h.Until = r.held.time().Add(HoldFor)
	}
	return h
}

// Answer is what a lookup for mail that leaves this site has found.
type Answer struct {
	Kinds []Kind // the promises that were found
	// Authentic reports whether an attacker on the path could not have made this answer: the MX RRset is secure, or
	// the domain's own web server ended its MTA-STS policy.
	Authentic bool
	Held      bool // the answer was held back
}

// Observe notes the answer of a lookup for a domain. Call it for mail that leaves this site only, never for a domain
// that an untrusted sender chose, and never after a failed lookup.
func (s *Store) Observe(domain string, a Answer) {
	if len(a.Kinds) == 0 && s.table.Get(domain) == (record{}) {
		return // nearly every call
	}
	now := s.o.Now()
	s.table.Lock()
	defer s.table.Unlock()
	r := s.table.Records[domain]
	was := r
	if len(a.Kinds) > 0 {
		s.noteSeen(domain, &r, a, now)
	} else {
		s.noteMissing(domain, &r, a, now)
	}
	s.put(domain, was, r)
}

// noteSeen notes that a domain keeps its promise.
func (s *Store) noteSeen(domain string, r *record, a Answer, now time.Time) {
	was := *r
	if r.missing != 0 {
		s.o.Log.Info("promise is back", "nexthop", domain, "promise", a.Kinds[0])
		r.missing, r.agreed = 0, 0
	}
	for i, k := range Kinds() {
		if slices.Contains(a.Kinds, k) {
			r.seen[i].add(DayOf(now), a.Authentic, now.Sub(s.began) >= clockSet)
		}
	}
	if *r != was && s.o.Seen != nil {
		s.o.Seen(domain)
	}
}

// noteMissing notes that a lookup found no promise of a domain.
func (s *Store) noteMissing(domain string, r *record, a Answer, now time.Time) {
	kinds := r.established(DayOf(now))
	switch {
	case a.Authentic:
		if len(kinds) > 0 {
			s.o.Log.Info("promise withdrawn by an authentic answer", "nexthop", domain, "promise", kinds[0])
		}
		*r = record{held: r.held, released: r.released}
		if s.o.Withdrawn != nil {
			s.o.Withdrawn(domain)
		}
	case len(kinds) == 0:
		r.missing, r.agreed = 0, 0
	case r.missing == 0 || r.missing > moment(now.Unix()): // the clock may have been set back
		r.missing = moment(now.Unix())
		s.vanished++
		h := r.history(now)
		s.o.Log.Warn("promise vanished from an unsigned answer", "nexthop", domain, "promise", kinds[0],
			"days", h.Days, "last", h.Last)
	}
	if r.missing == 0 {
		return
	}
	belongsToHold := r.held != 0 && r.missing.time().Before(r.held.time().Add(HoldFor))
	switch {
	case a.Held && !r.holding(now) && r.holdable(now):
		r.held, r.released = moment(now.Unix()), false
	case !a.Held && belongsToHold:
		// The hold is over: the new answer is the one that counts from now on.
		s.o.Log.Info("new answer accepted after a hold", "nexthop", domain, "promise", kinds[0])
		*r = record{held: r.held, released: r.released}
	}
}

// put stores a record that has changed, and removes an empty one. The table is locked.
func (s *Store) put(domain string, was, r record) {
	switch {
	case r == was:
	case r.held == 0 && r.seen == (sightings{}): // there is nothing to keep
		s.table.Delete(domain)
	default:
		s.table.Put(domain, r)
	}
}

// Forget removes what is remembered about a domain and ends a hold. It reports whether anything was remembered.
func (s *Store) Forget(domain string) bool { return s.table.Forget(domain) }

// Entry is one remembered domain. Its JSON form is stable.
type Entry struct {
	Domain string `json:"domain"`
	Seen   []Seen `json:"seen"`
	History
	Missing time.Time `json:"missing_since,omitzero"` // when the promise was first found missing
}

// Seen has the days on which one kind of promise was seen.
type Seen struct {
	Kind Kind `json:"kind"`
	Sightings
	Established bool `json:"established"` // it was seen on enough days to be missed
}

// List returns everything that is remembered, sorted by domain.
func (s *Store) List() []Entry { return s.list((*record).hasSeen) }

// Vanished returns the domains whose established promise is missing at present, sorted by domain.
func (s *Store) Vanished() []Entry { return s.list(func(r *record) bool { return r.missing != 0 }) }

// Get returns what is remembered about one domain.
func (s *Store) Get(domain string) (Entry, bool) {
	r := s.table.Get(domain)
	return r.entry(domain, s.o.Now()), r.hasSeen()
}

// hasSeen reports whether a promise is remembered. After a hold, only the time of the hold is remembered.
func (r *record) hasSeen() bool { return r.seen != (sightings{}) }

func (s *Store) list(keep func(*record) bool) []Entry {
	now := s.o.Now()
	list := []Entry{}
	for domain, r := range s.table.All() {
		if keep(&r) {
			list = append(list, r.entry(domain, now))
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Domain, b.Domain) })
	return list
}

func (r *record) entry(domain string, now time.Time) Entry {
	e := Entry{Domain: domain, Seen: []Seen{}, History: r.history(now)}
	for i, k := range Kinds() {
		if r.seen[i].Days > 0 {
			e.Seen = append(e.Seen, Seen{k, r.seen[i], slices.Contains(e.Kinds, k)})
		}
	}
	if r.missing != 0 && len(e.Kinds) > 0 {
		e.Missing = r.missing.time()
	}
	return e
}

// Stats are counts for metrics and the status page.
type Stats struct {
	// Remembered counts domains, Missing those whose established promise is missing now, and Held those that are held.
	Remembered int    `json:"remembered"`
	Missing    int    `json:"missing"`
	Held       int    `json:"held"`
	Vanished   uint64 `json:"vanished"` // since the start
}

// Stats returns the present counts. It visits every record.
func (s *Store) Stats() Stats {
	now := s.o.Now()
	s.table.RLock()
	defer s.table.RUnlock()
	st := Stats{Remembered: len(s.table.Records), Vanished: s.vanished}
	for _, r := range s.table.Records {
		if r.missing != 0 && len(r.established(DayOf(now))) > 0 {
			st.Missing++
			if r.holding(now) {
				st.Held++
			}
		}
	}
	return st
}

// Domains returns the domains that are remembered, in no order.
func (s *Store) Domains() []string { return s.table.Names() }

// Holds returns the domains whose answer is held at present.
func (s *Store) Holds() (domains []string) {
	now := s.o.Now()
	for _, e := range s.list(func(r *record) bool { return r.holding(now) }) {
		domains = append(domains, e.Domain)
	}
	return domains
}

// Agree notes whether a second resolver gives the answer that is held. Two such answers, at least half an hour apart
// and with no other between them, end the hold.
func (s *Store) Agree(domain string, agrees bool) {
	now := s.o.Now()
	s.table.Lock()
	defer s.table.Unlock()
	r := s.table.Records[domain]
	was, first := r, r.agreed.time()
	switch {
	case !r.holding(now) || !agrees:
		r.agreed = 0
	case r.agreed == 0 || now.Before(first):
		r.agreed = moment(now.Unix())
	case now.Sub(first) >= agreeAfter:
		r.agreed, r.released = 0, true
		s.o.Log.Info("hold ended by the second resolver", "nexthop", domain)
	}
	s.put(domain, was, r)
}
