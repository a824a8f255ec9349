package fleet

import (
	"time"

	"github.com/policyd/policyd/internal/promises"
)

// sightingsLifetime is how long a sighting matters to a peer: a promise is missed for thirty days.
const sightingsLifetime = 31 * 24 * time.Hour

// Promises shares a memory of promises.
type Promises struct {
	Store *promises.Store
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

var _ Local = Promises{}

// Domains implements Local.
func (p Promises) Domains() []string { return p.Store.Domains() }

// Content implements Local. The time is the last day on which a promise was seen.
func (p Promises) Content(domain string) (Content, bool) {
	seen, ok := p.Store.Sightings(domain)
	if !ok {
		return Content{}, false
	}
	c := Content{Lifetime: sightingsLifetime}
	for _, s := range seen {
		if s.Days > 0 && s.Last.Time().After(c.Time) {
			c.Time = s.Last.Time()
		}
		c.Data, _ = s.AppendBinary(c.Data) // never fails
	}
	return c, !c.Time.IsZero()
}

// Merge implements Local: it adds days on which a peer saw a promise.
func (p Promises) Merge(domain string, c Content) error {
	now := time.Now()
	if p.Now != nil {
		now = p.Now()
	}
	var seen [3]promises.Sightings
	if len(c.Data)%len(seen) != 0 {
		return ErrRefused
	}
	size := len(c.Data) / len(seen)
	for i := range seen {
		if err := seen[i].UnmarshalBinary(c.Data[i*size : (i+1)*size]); err != nil {
			return ErrRefused
		}
		if seen[i].Last > promises.DayOf(now.Add(maxFuture)) {
			return ErrRefused
		}
	}
	if !p.Store.Merge(domain, seen) {
		return ErrStale
	}
	return nil
}
