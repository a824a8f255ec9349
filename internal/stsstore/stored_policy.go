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
	// After the id of a domain has changed, another id is followed only after a back-off: minIDBackOff, doubled with
	// each further change, up to maxIDBackOff. A fetch at least idBackOffForgotten after the previous one resets it.
	minIDBackOff       = 15 * time.Second
	maxIDBackOff       = 30 * time.Minute
	idBackOffForgotten = 2 * time.Hour
	weightUnit         = 2 << 10 // octets; a policy of this size or more counts as several
)

// storedPolicy is a policy that was fetched. Only used and lastLive change; a newer policy replaces the whole record.
type storedPolicy struct {
	domain           string
	policy           mtasts.Policy
	id               string
	fetched, expires time.Time
	fetchedUnknown   bool      // fetched is only when this process read it: the time on disk was in the future
	refresh          time.Time // when to fetch it again, if it was used by then
	weight           int
	idBackOff        time.Duration // how long after fetched another id is not followed
	lastLive         time.Time     // see noteLive

	used atomic.Int64 // when it was last used, in Unix seconds; 0 if never since the fetch
}

// newStoredPolicy returns the record of a policy that was fetched at the time fetched.
//
// A time of this process has a monotonic reading, so a jump of the clock does not age a policy that it fetched.
func newStoredPolicy(domain, id string, policy mtasts.Policy, fetched time.Time) *storedPolicy {
	life := max(policy.MaxAge, minLife)
	// Renew earlier than necessary by a random time, so that policies fetched together are not renewed together.
	latest := min(life/2, refreshEvery)
	refresh := fetched.Add(latest - rand.N(latest/5+1))
	return &storedPolicy{
		domain: domain, policy: policy, id: id,
		fetched: fetched, expires: fetched.Add(life), refresh: refresh, weight: 1 + size(policy)/weightUnit,
	}
}

// size returns about how many octets a policy takes in memory. The patterns are parts of the lines.
func size(p mtasts.Policy) int {
	const header = 16 // the size of a string header
	n := header * len(p.MX)
	for _, line := range p.Raw {
		n += header + len(line)
	}
	return n
}

// live reports whether the policy must be applied. It returns false for nil.
func (p *storedPolicy) live(now time.Time) bool { return p != nil && now.Before(p.expires) }

// enforced reports whether the policy must be applied and is in mode enforce. It returns false for nil.
func (p *storedPolicy) enforced(now time.Time) bool {
	return p.live(now) && p.policy.Mode == mtasts.Enforce
}

// noteLive sets lastLive if the policy is live. The first call always sets it, because the clock may be wrong when
// a process starts. Only Run calls it.
func (p *storedPolicy) noteLive(now time.Time) {
	if p.live(now) || p.lastLive.IsZero() {
		p.lastLive = now
	}
}

// expiredFor returns for how long, by the time of this process, Run has found the policy expired.
func (p *storedPolicy) expiredFor(now time.Time) time.Duration { return now.Sub(p.lastLive) }

// backsOff reports whether the id changes so often that another id is not followed now: a record that is different in
// every answer must not cause a fetch for every message.
func (p *storedPolicy) backsOff(now time.Time) bool {
	return p.idBackOff > 0 && now.Before(p.fetched.Add(p.idBackOff))
}

// use notes that the policy was asked for.
func (p *storedPolicy) use(now time.Time) {
	if t := now.Unix(); p.used.Load() != t {
		p.used.Store(t)
	}
}

// lastUse returns when the policy was used or fetched last, in Unix seconds.
func (p *storedPolicy) lastUse() int64 { return max(p.used.Load(), p.fetched.Unix()) }

// onDisk is the form of a stored policy on disk, under the domain.
type onDisk struct {
	ID      string    `json:"id"`
	Fetched time.Time `json:"fetched"`
	Lines   []string  `json:"lines"`
}

// encode returns the form on disk. The other nodes of a site get the same form with a fetched time of zero, because a
// shared record has a time of its own.
func (p *storedPolicy) encode(fetched time.Time) []byte {
	b, _ := json.Marshal(onDisk{p.id, fetched.UTC(), p.policy.Raw}) // strings and a time do not fail
	return b
}

// decode reads what encode wrote. It trusts the disk no more than a policy host: it parses the policy again.
func decode(domain string, value []byte) (*storedPolicy, error) {
	var v onDisk
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, fmt.Errorf("stsstore: %w", err)
	}
	if !mtasts.ValidDomain(domain) || domain != strings.ToLower(domain) || !mtasts.ValidID(v.ID) {
		return nil, errors.New("stsstore: malformed domain or id")
	}
	policy, err := mtasts.ParsePolicy([]byte(strings.Join(v.Lines, "\n")))
	if err != nil {
		return nil, err
	}
	return newStoredPolicy(domain, v.ID, policy, v.Fetched), nil
}

// load decodes a policy from the disk. If its time is in the future, the clock was wrong when it was fetched or is
// wrong now. Such a policy holds for its max_age from now on and is due for renewal. Loading it does not change its
// time on disk.
func load(domain string, value []byte) (*storedPolicy, error) {
	p, err := decode(domain, value)
	if err != nil {
		return nil, err
	}
	if now := time.Now(); p.fetched.After(now) {
		p = newStoredPolicy(domain, p.id, p.policy, now)
		p.fetchedUnknown = true
		p.refresh = now
	}
	return p, nil
}
