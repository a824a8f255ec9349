// Package promises remembers which next hops promised authenticated TLS, so that a promise cannot disappear without
// anyone noticing.
//
// An attacker who can forge DNS answers for an unsigned domain can make its MX prefix, its MTA-STS record or its TLSA
// records vanish. The single answer then looks like that of a domain without any promise. What the attacker cannot
// forge is the past: [Store] keeps, for each next hop that this site sends to, which [Kind] of promise was seen, on how
// many days, and whether the MX RRset was signed. RFC 8461 section 10.2 describes the same weakness of a first contact.
package promises

import (
	"math/bits"
	"time"
)

// Kind is a way in which a domain promises authenticated TLS.
type Kind string

// The kinds of promise.
const (
	Prefix Kind = "prefix"
	MTASTS Kind = "mta-sts"
	DANE   Kind = "dane"
)

// Kinds returns every kind, in the order in which they are stored and shown.
func Kinds() []Kind { return []Kind{Prefix, MTASTS, DANE} }

// How long promises and holds last.
const (
	// A promise is established once it was seen on at least minDays of the last window days.
	minDays = 3
	window  = 30
	// HoldFor is how long a hold lasts at most. A domain is held at most once in HoldEvery.
	HoldFor   = 6 * time.Hour
	HoldEvery = 30 * 24 * time.Hour
	// agreeAfter is how far apart two equal answers of the second resolver must be to end a hold.
	agreeAfter = 30 * time.Minute
	// shareFor is how long a sighting matters to a peer: a promise is missed for thirty days.
	shareFor = (window + 1) * 24 * time.Hour
	// clockSet is how long after the start the clock is assumed to be set: a machine may start with a time in the past.
	clockSet = time.Hour
	// maxFuture is how far the clock of a peer may be ahead.
	maxFuture = 5 * time.Minute
)

// Day is a date in UTC: the number of days since 1970-01-01. Its text is a date, such as 2026-11-28.
type Day uint16

// String returns the date.
func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// MarshalText implements encoding.TextMarshaler.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Day) UnmarshalText(date []byte) error {
	t, err := time.Parse(time.DateOnly, string(date))
	*d = DayOf(t)
	return err
}

// DayOf returns the date of t in UTC. Times before 1970 are day 0.
func DayOf(t time.Time) Day { return Day(max(0, min(t.Unix()/86400, 1<<16-1))) }

// Time returns the first second of the day, in UTC.
func (d Day) Time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// Sightings has the days on which one kind of promise was seen. The zero value means never.
type Sightings struct {
	First  Day    `json:"first"`  // the first day on which the promise was seen
	Last   Day    `json:"last"`   // the last such day
	Days   uint16 `json:"days"`   // the number of days on which it was seen
	Signed bool   `json:"signed"` // the MX RRset was secure when the promise was last seen
	Recent uint32 `json:"-"`      // bit i: the promise was seen on the day Last - i
}

// add notes that the promise was seen on a day. A day in the past, from a peer or a clock that was set back, counts
// too. Sightings in the far future would hide it. They are from a wrong clock, if the present one is surely right.
func (s *Sightings) add(day Day, signed, sure bool) {
	if sure && int(s.Last) >= int(day)+window {
		s.First, s.Last = min(s.First, day), day
	}
	was := *s
	s.merge(Sightings{First: day, Last: day, Days: 1, Recent: 1})
	if day > was.Last || s.Recent != was.Recent {
		s.Days = max(was.Days, was.Days+1) // without an overflow
	}
	if day == s.Last {
		s.Signed = signed
	}
}

// within returns on how many of the last thirty days, today included, the promise was seen.
func (s *Sightings) within(today Day) int {
	if s.Days == 0 || s.Last > today {
		// If the last day is in the future, the clock was set back: count back from that day.
		return bits.OnesCount32(s.Recent & (1<<window - 1))
	}
	age := today - s.Last
	if age >= window {
		return 0
	}
	return bits.OnesCount32(s.Recent & (1<<(window-age) - 1))
}

// merge adds what another node has seen. It only ever adds.
func (s *Sightings) merge(o Sightings) {
	if o.Days == 0 {
		return
	}
	if s.Days == 0 {
		*s = o
		return
	}
	a, b := *s, o
	if b.Last > a.Last {
		a, b = b, a
	}
	if gap := a.Last - b.Last; gap < 32 {
		a.Recent |= b.Recent << gap
	}
	a.First = min(a.First, b.First)
	a.Days = max(a.Days, b.Days, uint16(bits.OnesCount32(a.Recent)))
	*s = a
}

// sightings has one element for each kind, in the order of Kinds.
type sightings [3]Sightings

// record is what is remembered about one domain.
type record struct {
	seen     sightings
	held     moment // when the latest hold began; zero means never
	missing  moment // when the promise was first found missing; zero means that it is there
	agreed   moment // when the second resolver first gave the answer that is held; zero if it has not
	released bool   // the latest hold ended early
}

// moment is a time in seconds since 1970. It has 32 bits, enough until 2106, because there are many records.
type moment uint32

func (m moment) time() time.Time { return time.Unix(int64(m), 0) }

// established returns the kinds that were seen often enough, and lately enough, to be missed.
func (r *record) established(today Day) (kinds []Kind) {
	for i, k := range Kinds() {
		if r.seen[i].within(today) >= minDays {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// last returns the last day on which any promise was seen.
func (r *record) last() Day { return max(r.seen[0].Last, r.seen[1].Last, r.seen[2].Last) }

// holdable reports whether an answer without the promise may be held back now: a hold is running, or none began within
// the last HoldEvery. A hold that began in the future comes from before the clock was set back, and does not count.
func (r *record) holdable(now time.Time) bool {
	since := now.Sub(r.held.time())
	switch {
	case r.held == 0 || since < 0:
		return true
	case since < HoldFor:
		return !r.released
	}
	return since >= HoldEvery
}

// holding reports whether a hold is running.
func (r *record) holding(now time.Time) bool {
	since := now.Sub(r.held.time())
	return r.held != 0 && r.missing != 0 && !r.released && since >= 0 && since < HoldFor
}
