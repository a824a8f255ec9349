// Package admin is the API of the daemon for its operator: HTTP with JSON over a unix socket, described in
// docs/admin-api.md. The permissions of the socket are the access control. Anyone who can open it can see everything
// the daemon knows and change what can be changed while it runs, so nothing of this is served anywhere else.
package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/socketmap"
)

// Daemon is what is shown and changed. Every function must be set, is called by several goroutines concurrently, and
// gets names in the form of policy.ParseName.
type Daemon struct {
	Status func() Status
	List   func(Filter) CacheList
	Get    func(domain string) Domain
	Flush  func(FlushRequest) Flushed
	// Reload reads the settings again. After an error the daemon keeps the previous ones.
	Reload func() (Reload, error)
	// Level is the level of the log, until a reload or a restart sets it to that of the settings.
	Level *slog.LevelVar
	// Report sums up the lookups since then; the zero time means all that are remembered.
	Report func(since time.Time) report.Report
	// Explain evaluates a next hop with what the daemon itself knows.
	Explain func(ctx context.Context, nexthop string) lookup.Explanation
	// Lookup does the same as for mail to the next hop: the lookup is counted and remembered, and can cause a probe.
	Lookup   func(ctx context.Context, nexthop string) lookup.Explanation
	Promises func(Filter) PromiseList
	// Promise returns false if nothing is remembered.
	Promise func(domain string) (Promise, bool)
	// Forget removes what is remembered about a domain and ends a hold. It reports whether there was anything.
	Forget func(domain string) bool
	// Warm evaluates a domain as for mail to it: it remembers its promises and fetches its MTA-STS policy.
	Warm func(ctx context.Context, domain string) Warmed
}

// CacheList is what the cache has, by name and type.
type CacheList struct {
	Entries []CacheEntry `json:"entries"`
	// More is set when there are more entries than the limit allows.
	More bool `json:"more"`
}

// CacheEntry is an answer in the cache, or a failure, or both: a secure answer outlives a failure.
type CacheEntry struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Status is secure, insecure, or indeterminate where there is no answer.
	Status string `json:"status"`
	// Records are as in a zone file; none in an answer that denies them, and Denial is then NODATA or NXDOMAIN.
	Records []string `json:"records"`
	Denial  string   `json:"denial,omitempty"`
	// Stored and Expires belong to the answer; they are left out where there is none.
	Stored  time.Time `json:"stored,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	// Failure is why the last lookup failed, Retry when it may be tried again.
	Failure string    `json:"failure,omitempty"`
	Retry   time.Time `json:"retry,omitzero"`
}

// Domain is what is known about a domain.
type Domain struct {
	Domain string `json:"domain"`
	// Cache is what the cache has for the domain, the names below it and its MX hosts.
	Cache []CacheEntry `json:"cache"`
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

// Flushed has the numbers of removed entries.
type Flushed struct {
	Cache    int `json:"cache"`
	Policies int `json:"policies"`
}

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

// RouteAnswer is the route over the port of implicit TLS for a domain.
type RouteAnswer struct {
	Nexthop   string          `json:"nexthop"`
	Transport socketmap.Reply `json:"transport"`
	Would     socketmap.Reply `json:"would_transport"`
	Why       []string        `json:"why"`
}

// refusal is what the server answers in place of what was asked for.
type refusal struct {
	Message string `json:"error"`
}
