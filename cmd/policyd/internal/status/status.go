// Package status is what the daemon knows, in the form that its operator sees. The JSON form is stable: fields are
// added, never changed or taken away.
package status

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
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
	Reload   *Reload         `json:"reload"` // the last one; null: there was none since the start
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
	File      string          `json:"file"`      // where they are from; "" means that there is no file
	Mode      string          `json:"mode"`      // enforce, report or off
	Changed   []string        `json:"changed"`   // those that are not the default, as lines of TOML with dotted keys
	All       json.RawMessage `json:"all"`       // all of them, by the names they have in the file
	Overrides int             `json:"overrides"` // the lines of the overrides file
}

// Reload is how the settings were read again.
type Reload struct {
	At      time.Time `json:"at"`
	OK      bool      `json:"ok"`
	Error   string    `json:"error,omitempty"`   // why the new settings were refused and the previous ones kept
	Restart []string  `json:"restart,omitempty"` // the changed settings that take effect after a restart only
}

// Resolver is what is known about the DNS servers.
type Resolver struct {
	stub.State
	Trusted    bool   `json:"trusted"`
	Validating bool   `json:"validating"` // the self-test has been passed, so that answers can be secure
	SelfTest   string `json:"self_test"`  // its result
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
	Domains []string `json:"domains"` // some of those whose promise is missing
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
	Cache  []dnscache.Entry `json:"cache"`   // of the domain, the names below it and its MX hosts
	MTASTS *stsstore.Entry  `json:"mta_sts"` // null: nothing is stored
	Probes []Probe          `json:"probes"`  // of the MX hosts that promise implicit TLS
}

// Probe is what is known about the port of implicit TLS of a host.
type Probe struct {
	Host    string    `json:"host"`
	State   string    `json:"state"`           // open, closed or unknown
	Cause   string    `json:"cause,omitempty"` // why it is closed
	Checked time.Time `json:"checked,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Why     string    `json:"why,omitempty"` // what the probe saw
}

// Warn returns what an operator should look at, the worst first. What the settings themselves give rise to is not among
// it: the daemon adds that.
func (st *Status) Warn() []string {
	w := []string{}
	add := func(yes bool, format string, args ...any) {
		if yes {
			w = append(w, fmt.Sprintf(format, args...))
		}
	}
	r, c := st.Resolver, st.Cache
	asks := st.Settings.Mode != "off" // otherwise there is no self-test, and nothing that could be weak
	untested := r.SelfTest == "unknown"
	does := strings.Replace("is "+r.SelfTest, "is echoes", "echoes", 1)
	add(asks && !r.FailingSince.IsZero(), "no DNS server has answered since %s; lookups fail and mail waits: %s",
		clock(r.FailingSince), r.FailingReason)
	add(asks && untested, "resolver self-test has no result yet; lookups fail and mail waits: %s", r.Reason)
	add(asks && !untested && !r.Validating, "treating all answers as insecure, because the resolver %s: %s",
		does, r.Reason)
	if last := st.Reload; last != nil {
		add(!last.OK, "last reload failed; keeping the previous settings: %s", last.Error)
		add(len(last.Restart) > 0, "changed settings take effect after a restart: %s", strings.Join(last.Restart, ", "))
	}
	add(st.Lookups.Panics > 0, "%d lookups ended in an internal error; please report the log lines", st.Lookups.Panics)
	for _, m := range st.Connections.UnknownMaps {
		add(true, "a client asks for the unknown map %q (requests: %d, last at %s); its mail waits: use %s in main.cf",
			m.Name, m.Times, clock(m.Last), cmp.Or(m.Nearest, "tls-policy, tls-policy-tlsrpt or transport"))
	}
	full := c.Entries >= c.MaxEntries/10*9
	add(c.Evicted > 0 && full, "cache full; %d entries evicted; raise cache.max_entries", c.Evicted)
	add(c.Evicted > 0 && !full && c.Bytes >= c.MaxBytes/10*9, "cache memory exhausted; %d entries evicted; raise the "+
		"memory limit of the process, or cache.max_entries if there is none", c.Evicted)
	add(st.Probes != nil && st.Probes.EgressFiltered,
		"outbound port for implicit TLS appears to be blocked; all mail uses port 25")
	if m := st.MTASTS; m != nil {
		add(!m.Blocked.IsZero(), "no MTA-STS policy can be fetched from this host since %s: check outbound port "+
			"443, the root certificates and mta_sts.proxy_from_environment", clock(m.Blocked))
		add(!m.Persistent, "MTA-STS policies are not saved and are lost at a restart; check cache.state_dir")
	}
	if p := st.Promises; p != nil {
		add(p.Missing > 0, "promises vanished (domains: %d, mail held: %d), for example of %s: "+
			"see policyd promises list --vanished", p.Missing, p.Held, strings.Join(p.Domains, ", "))
	}
	if f := st.Fleet; f != nil {
		add(!f.Up, "fleet store unavailable; nothing is shared, and lookups are not affected: %s", f.Error)
		add(f.Ignored["mac"] > 0, "fleet records ignored because of their MAC: %d; compare fleet.key_file on all nodes",
			f.Ignored["mac"])
	}
	dropped := st.Connections.Dropped["evicted"] + st.Connections.Dropped["refused"]
	why := "server.max_connections"
	if st.Connections.Errors["accept"] > 0 { // connections are dropped to make room then too, and are not counted apart
		why += " or a lack of file descriptors"
	}
	add(dropped > 0, "%d connections closed because of %s", dropped, why)
	return w
}

// clock is a time as the clock on the wall has it, with the date if that is not plain.
func clock(t time.Time) string {
	if time.Since(t) < 12*time.Hour {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
