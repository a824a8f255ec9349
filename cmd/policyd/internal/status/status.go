// Package status has the state of the daemon in the form that its operator sees. The JSON form is stable: fields are
// added, never changed or removed.
package status

import (
	"encoding/json"
	"time"

	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
)

// Status is what `policyd status` shows.
type Status struct {
	Version  string          `json:"version"`
	Go       string          `json:"go"`
	PID      int             `json:"pid"`
	Started  time.Time       `json:"started"`
	Uptime   int64           `json:"uptime_seconds"`
	LogLevel string          `json:"log_level"`
	Warnings []string        `json:"warnings"` // what an operator should look at, a sentence each
	Settings Settings        `json:"settings"`
	Reload   *Reload         `json:"reload"` // the last reload since the start; null if there was none
	Resolver stub.State      `json:"resolver"`
	Lookups  lookup.Stats    `json:"lookups"`
	Cache    dnscache.Stats  `json:"cache"`
	MTASTS   *stsstore.Stats `json:"mta_sts"`
	Probes   *probe.Stats    `json:"probes"`
	// Promises is null where promises.vanished is off, Fleet where fleet.url is empty.
	Promises    *PromiseStatus `json:"promises"`
	Fleet       *fleet.Stats   `json:"fleet"`
	Connections Connections    `json:"connections"`
}

// Settings are the effective settings.
type Settings struct {
	File      string          `json:"file"`      // the settings file; "" if there is none
	Mode      string          `json:"mode"`      // enforce, report or off
	Changed   []string        `json:"changed"`   // settings other than the default, as lines of TOML with dotted keys
	All       json.RawMessage `json:"all"`       // all of them, by the names they have in the file
	Overrides int             `json:"overrides"` // the lines of the overrides file
}

// Reload is the result of a reload of the settings.
type Reload struct {
	At      time.Time `json:"at"`
	OK      bool      `json:"ok"`
	Error   string    `json:"error,omitempty"`   // why the new settings were refused and the previous ones kept
	Restart []string  `json:"restart,omitempty"` // the changed settings that take effect after a restart only
}

// Connections counts those of the socketmap listeners.
type Connections struct {
	Listeners []string `json:"listeners"`
	Open      int      `json:"open"`
	Max       int      `json:"max"`
	Total     uint64   `json:"total"`
	// Dropped counts by reason: evicted, refused, idle, stalled. Errors counts by kind: malformed, stalled, write,
	// accept, and unknown-map for requests for unknown maps.
	Dropped map[string]uint64 `json:"dropped"`
	Errors  map[string]uint64 `json:"errors"`
	// UnknownMaps are the unknown maps that clients have requested in the last 10 minutes.
	UnknownMaps []lookup.UnknownMap `json:"unknown_maps"`
}

// Domain is what is known about a domain.
type Domain struct {
	Domain string           `json:"domain"`
	Cache  []dnscache.Entry `json:"cache"`   // entries of the domain, the names below it and its MX hosts
	MTASTS *stsstore.Entry  `json:"mta_sts"` // null: nothing is stored
	Probes []probe.Entry    `json:"probes"`  // results for the MX hosts that promise implicit TLS
}
