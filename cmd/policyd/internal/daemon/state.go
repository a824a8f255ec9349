package daemon

import (
	"log/slog"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/resolver"
	"github.com/policyd/policyd/socketmap"
)

// Settings returns the settings in force.
func (d *Daemon) Settings() *settings.Loaded { return d.loaded.Load() }

// LastReload returns what became of the last reload; nil: there was none.
func (d *Daemon) LastReload() *LastReload { return d.last.Load() }

// Started returns when the daemon was made.
func (d *Daemon) Started() time.Time { return d.started }

// Version returns the version of the program.
func (d *Daemon) Version() string { return d.options.Version }

// Resolver returns what is known about the DNS servers.
func (d *Daemon) Resolver() resolver.State { return d.stub.State() }

// Cache returns the cache of DNS answers.
func (d *Daemon) Cache() *resolver.Cache { return d.cache }

// Lookups returns the counters of lookups.
func (d *Daemon) Lookups() lookup.Stats { return d.service.Stats() }

// Connections returns the counters of the socketmap server.
func (d *Daemon) Connections() socketmap.Stats { return d.server.Stats() }

// LogLevel returns the level that is logged, and SetLogLevel changes it until the next reload.
func (d *Daemon) LogLevel() slog.Level { return d.logs.level.Level() }

// SetLogLevel changes what is logged until the next reload.
func (d *Daemon) SetLogLevel(l slog.Level) { d.logs.level.Set(l) }

// stubOptions are the options of the resolver.
func (d *Daemon) stubOptions(l *settings.Loaded) resolver.StubOptions { return l.Stub(d.log) }

// Warnings returns what the operator should know: the warnings of the settings, and what is wrong now.
func (d *Daemon) Warnings() []string {
	w := append([]string(nil), d.loaded.Load().Warnings...)
	st := d.stub.State()
	if st.Result != resolver.Validating {
		w = append(w, "the resolver is not believed: "+st.Result.String()+": "+st.Reason)
	}
	if last := d.last.Load(); last != nil && last.Err != nil {
		w = append(w, "the last reload failed: "+oneLine(last.Err))
	}
	return w
}
