// Package status is what the daemon knows, in the form that its operator sees. The JSON form is stable: fields are
// added, never changed or taken away.
package status

import (
	"encoding/json"
	"time"

	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/stsstore"
)

// Status is what `policyd status` shows.
type Status struct {
	Version string    `json:"version"`
	Go      string    `json:"go"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Uptime is in whole seconds.
	Uptime   int64  `json:"uptime_seconds"`
	LogLevel string `json:"log_level"`
	// Warnings are what an operator should look at, a sentence each.
	Warnings []string `json:"warnings"`
	Settings Settings `json:"settings"`
	// Reload is the last one; null: there was none since the start.
	Reload   *Reload         `json:"reload"`
	Resolver Resolver        `json:"resolver"`
	Lookups  lookup.Stats    `json:"lookups"`
	Cache    Cache           `json:"cache"`
	MTASTS   *stsstore.Stats `json:"mta_sts"`
	Probes   *probe.Stats    `json:"probes"`
	// Promises is null where promises.vanished is off, Fleet where fleet.url is empty.
	Promises    *PromiseStatus `json:"promises"`
	Fleet       *fleet.Stats   `json:"fleet"`
	Connections Connections    `json:"connections"`
}

// Settings are the effective settings.
type Settings struct {
	// File is where they are from; "" means that there is no file.
	File string `json:"file"`
	// Mode is enforce, report or off.
	Mode string `json:"mode"`
	// Changed are those that are not the default, as lines of TOML with dotted keys.
	Changed []string `json:"changed"`
	// All are all of them, by the names they have in the file.
	All json.RawMessage `json:"all"`
	// Overrides counts the lines of the overrides file.
	Overrides int `json:"overrides"`
}

// Reload is how the settings were read again.
type Reload struct {
	At time.Time `json:"at"`
	OK bool      `json:"ok"`
	// Error is the reason why the new settings were refused and the previous ones kept.
	Error string `json:"error,omitempty"`
	// Restart lists the settings that were changed and take effect with a restart only.
	Restart []string `json:"restart,omitempty"`
}

// Resolver is what is known about the DNS servers.
type Resolver struct {
	Servers []string `json:"servers"`
	// Source is "settings" or the path of the resolv.conf.
	Source  string `json:"source"`
	Trusted bool   `json:"trusted"`
	// Validating is set when the self-test has been passed, so that answers can be secure.
	Validating bool `json:"validating"`
	// SelfTest is its result in words, Reason why it is not "validating".
	SelfTest string    `json:"self_test"`
	Reason   string    `json:"reason,omitempty"`
	Checked  time.Time `json:"checked,omitzero"`
	// FailingSince is since when no question has had an answer from any server, zero where that is not so;
	// FailingReason is what failed last.
	FailingSince  time.Time `json:"failing_since,omitzero"`
	FailingReason string    `json:"failing_reason,omitempty"`
}

// Cache is how the DNS cache is doing.
type Cache struct {
	dnscache.Stats
	MaxEntries int `json:"max_entries"`
	// Answers counts what came from the servers by its status: secure, insecure, bogus or failed.
	Answers map[string]uint64 `json:"answers"`
}

// PromiseStatus is the state of the remembered promises.
type PromiseStatus struct {
	promises.Stats
	// Domains are some of those whose promise is missing.
	Domains []string `json:"domains"`
}

// Connections counts those of the socketmap listeners.
type Connections struct {
	Listeners []string `json:"listeners"`
	Open      int      `json:"open"`
	Max       int      `json:"max"`
	Total     uint64   `json:"total"`
	// Dropped counts by reason: evicted, refused, idle, stalled.
	Dropped map[string]uint64 `json:"dropped"`
	// Errors counts by kind: malformed, stalled, write, accept, and unknown-map for requests for unknown maps.
	Errors map[string]uint64 `json:"errors"`
	// UnknownMaps are the unknown maps that clients have requested in the last 10 minutes.
	UnknownMaps []lookup.UnknownMap `json:"unknown_maps"`
}
