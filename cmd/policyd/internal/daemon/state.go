package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/postfix"
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

// Listening returns the addresses of the socketmap server; none before it answers.
func (d *Daemon) Listening() []string {
	if a := d.listening.Load(); a != nil {
		return *a
	}
	return nil
}

// Cache returns the cache of DNS answers.
func (d *Daemon) Cache() *resolver.Cache { return d.cache }

// Lookups returns the counters of lookups.
func (d *Daemon) Lookups() lookup.Stats { return d.service.Stats() }

// Connections returns the counters of the socketmap server.
func (d *Daemon) Connections() socketmap.Stats { return d.server.Stats() }

// LogLevel is the level that is logged. Who sets it changes it until the next reload.
func (d *Daemon) LogLevel() *slog.LevelVar { return &d.logs.level }

// Log returns the log.
func (d *Daemon) Log() *slog.Logger { return d.log }

// Site returns what is known about what this site receives itself.
func (d *Daemon) Site() postfix.State { return d.site.State() }

// Explain evaluates a next hop with what the daemon knows, for policyd query --live.
func (d *Daemon) Explain(ctx context.Context, key string) lookup.Explanation {
	return lookup.Explain(ctx, d.sources(), key, d.lookupSettings(d.loaded.Load()))
}

func (d *Daemon) stubOptions(l *settings.Loaded) resolver.StubOptions {
	o := l.Stub(d.log)
	o.Observe = d.observeQuery()
	return o
}

func (d *Daemon) siteOptions(l *settings.Loaded) postfix.Options {
	o := l.Site(d.log)
	o.Resolver = d.cache
	return o
}

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
