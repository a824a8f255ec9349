package admin

import (
	"time"

	"github.com/policyd/policyd/internal/promises"
)

// PromiseList is what is remembered, by domain.
type PromiseList struct {
	Promises []Promise `json:"promises"`
	// More is set when there are more domains than the limit allows.
	More bool `json:"more"`
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

// Forgotten reports whether there was anything to forget.
type Forgotten struct {
	Forgotten bool `json:"forgotten"`
}

// Warmed is what the evaluation of a domain found.
type Warmed struct {
	Domain string `json:"domain"`
	// Status is that of the tls-policy answer with mode = "enforce": OK, NOTFOUND or TEMP. Source is the mechanism that
	// decided.
	Status string `json:"status"`
	Source string `json:"source"`
}

// PromiseStatus is the state of the remembered promises.
type PromiseStatus struct {
	promises.Stats
	// Domains are some of those whose promise is missing.
	Domains []string `json:"domains"`
}
