// Package admin is the API of the daemon for its operator: HTTP with JSON over a unix socket, described in
// docs/admin-api.md. The permissions of the socket are the access control. Anyone who can open it can see everything
// the daemon knows and change what can be changed while it runs, so nothing of this is served anywhere else.
package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/report"
)

// Daemon is what is shown and changed. Every function must be set, is called by several goroutines concurrently, and
// gets names in the form of policy.ParseName.
type Daemon struct {
	Status func() status.Status
	List   func(Filter) CacheList
	Get    func(domain string) status.Domain
	Flush  func(FlushRequest) Flushed
	// Reload reads the settings again. After an error the daemon keeps the previous ones.
	Reload func() (status.Reload, error)
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
	Promise func(domain string) (status.Promise, bool)
	// Forget removes what is remembered about a domain and ends a hold. It reports whether there was anything.
	Forget func(domain string) bool
	// Warm evaluates a domain as for mail to it: it remembers its promises and fetches its MTA-STS policy.
	Warm func(ctx context.Context, domain string) Warmed
}

// CacheList is what the cache has, by name and type.
type CacheList struct {
	Entries []dnscache.Entry `json:"entries"`
	// More is set when there are more entries than the limit allows.
	More bool `json:"more"`
}

// Flushed has the numbers of removed entries.
type Flushed struct {
	Cache    int `json:"cache"`
	Policies int `json:"policies"`
}

// PromiseList is what is remembered, by domain.
type PromiseList struct {
	Promises []status.Promise `json:"promises"`
	// More is set when there are more domains than the limit allows.
	More bool `json:"more"`
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
