package status

import (
	"time"

	"github.com/policyd/policyd/internal/dnscache"
)

// Domain is what is known about a domain.
type Domain struct {
	Domain string `json:"domain"`
	// Cache is what the cache has for the domain, the names below it and its MX hosts.
	Cache []dnscache.Entry `json:"cache"`
	// MTASTS is what the store of policies has; null: nothing.
	MTASTS *StoredPolicy `json:"mta_sts"`
	// Probes are of the MX hosts that promise implicit TLS.
	Probes []Probe `json:"probes"`
}

// StoredPolicy is what the store has for a domain: an MTA-STS policy, a failed fetch, or both.
type StoredPolicy struct {
	// Mode is enforce, testing or none; the fields down to Expires are left out where there is no policy.
	Mode    string    `json:"mode,omitempty"`
	ID      string    `json:"id,omitempty"`
	MX      []string  `json:"mx,omitempty"`
	Fetched time.Time `json:"fetched,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	// Failure is why the last fetch failed, Retry when it is tried again.
	Failure string    `json:"failure,omitempty"`
	Retry   time.Time `json:"retry,omitzero"`
}

// Probe is what is known about the port of implicit TLS of a host.
type Probe struct {
	Host string `json:"host"`
	// State is open, closed or unknown; Cause and Why say why it is closed.
	State   string    `json:"state"`
	Cause   string    `json:"cause,omitempty"`
	Checked time.Time `json:"checked,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Why     string    `json:"why,omitempty"`
}

// Promise is what is remembered about one domain.
type Promise struct {
	Domain string `json:"domain"`
	// Seen has one entry for each kind of promise that was seen.
	Seen []SeenPromise `json:"seen"`
	// MissingSince is when an established promise was first missing from an unsigned answer; left out if it is there.
	MissingSince time.Time `json:"missing_since,omitzero"`
	// HeldUntil is when mail for the domain no longer waits because of that; left out if it does not wait.
	HeldUntil time.Time `json:"held_until,omitzero"`
	// MayHold is set if an answer without the promise may be held now: the domain was not held in the last 30 days.
	MayHold bool `json:"may_hold"`
}

// SeenPromise is the period in which one kind of promise was seen. First and Last are dates in UTC, such as 2026-11-28.
type SeenPromise struct {
	// Kind is prefix, mta-sts or dane.
	Kind  string `json:"kind"`
	First string `json:"first"`
	Last  string `json:"last"`
	Days  int    `json:"days"`
	// Signed is set if DNSSEC protected the MX RRset when the promise was last seen.
	Signed bool `json:"signed"`
	// Established is set if the promise was seen on enough days to be missed.
	Established bool `json:"established"`
}
