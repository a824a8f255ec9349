package stsstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

const (
	// minLife is how long a policy is used at least. A policy with max_age 0 is for the current delivery; this makes it
	// serve all deliveries that begin within these seconds, so that a burst of mail fetches it once.
	minLife      = 5 * time.Second
	refreshEvery = 24 * time.Hour // the "suggested refresh frequency" of RFC 8461 section 3.3
	// A new id is followed after firstPace if the id changed before, and after twice as long each time, up to lastPace.
	// An id that did not change for paceMemory is followed immediately.
	firstPace  = 15 * time.Second
	lastPace   = 30 * time.Minute
	paceMemory = 2 * time.Hour
	heavy      = 2 << 10 // how many octets a policy may take and still count as one
)

// entry is a policy that was fetched. Only used and alive change; a newer policy replaces the entry.
type entry struct {
	domain           string
	policy           mtasts.Policy
	id               string
	fetched, expires time.Time
	refresh          time.Time // when to fetch it again, if it was used by then
	weight           int
	pace             time.Duration // how long after fetched another id is not followed
	alive            time.Time     // when Run last found it live, or first looked

	used atomic.Int64 // when it was used last, in Unix seconds; 0 if it was not since it was fetched
}

// newEntry returns the entry for a policy that was fetched at the time fetched.
//
// A time of this process has a monotonic reading, so a jump of the clock does not age a policy that it fetched.
func newEntry(domain, id string, p mtasts.Policy, fetched time.Time) *entry {
	life := max(p.MaxAge, minLife)
	// Earlier than necessary by a random time, so that policies fetched together are not renewed together.
	ahead := min(life/2, refreshEvery)
	ahead -= rand.N(ahead/5 + 1)
	return &entry{
		domain: domain, policy: p, id: id,
		fetched: fetched, expires: fetched.Add(life), refresh: fetched.Add(ahead), weight: 1 + size(p)/heavy,
	}
}

// size returns about how many octets a policy takes in memory. The patterns are parts of the lines.
func size(p mtasts.Policy) int {
	const header = 16 // of a string
	n := header * len(p.MX)
	for _, line := range p.Raw {
		n += header + len(line)
	}
	return n
}

// live reports whether the policy must be applied.
func (e *entry) live(now time.Time) bool { return e != nil && now.Before(e.expires) }

// over reports whether the policy has been expired for keepExpired of the time of this process. Only Run calls it.
func (e *entry) over(now time.Time) bool {
	if e.live(now) || e.alive.IsZero() {
		e.alive = now
	}
	return now.Sub(e.alive) >= keepExpired
}

// heldBack reports whether the id changes so often that it is not followed every time: a record that is different in
// every answer must not cause a fetch for every message.
func (e *entry) heldBack(now time.Time) bool { return e.pace > 0 && now.Before(e.fetched.Add(e.pace)) }

// use notes that the policy was asked for.
func (e *entry) use(now time.Time) {
	if t := now.Unix(); e.used.Load() != t {
		e.used.Store(t)
	}
}

// lastUse returns when the policy was used or fetched last, in Unix seconds.
func (e *entry) lastUse() int64 { return max(e.used.Load(), e.fetched.Unix()) }

// stored is the form of an entry on disk, under the domain.
type stored struct {
	ID      string    `json:"id"`
	Fetched time.Time `json:"fetched"`
	Lines   []string  `json:"lines"`
}

// encode returns the stored form. What the nodes of a site share has a time of its own.
func (e *entry) encode(fetched time.Time) []byte {
	b, _ := json.Marshal(stored{e.id, fetched.UTC(), e.policy.Raw}) // strings and a time do not fail
	return b
}

// decode reads what encode wrote. It trusts the disk no more than a policy host: it parses the policy again.
func decode(domain string, value []byte) (*entry, error) {
	var v stored
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, fmt.Errorf("stsstore: %w", err)
	}
	if !mtasts.ValidDomain(domain) || domain != strings.ToLower(domain) || !mtasts.ValidID(v.ID) {
		return nil, errors.New("stsstore: malformed domain or id")
	}
	p, err := mtasts.ParsePolicy([]byte(strings.Join(v.Lines, "\n")))
	if err != nil {
		return nil, err
	}
	return newEntry(domain, v.ID, p, v.Fetched), nil
}
