package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// hangups reloads when it is asked to, until ctx ends.
func (d *Daemon) hangups(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.options.Hangup:
			_, _ = d.Reload() // logged, and kept for status
		}
	}
}

// Reload reads settings and overrides again and applies all of them or none: after an error the previous settings
// remain in effect. Listeners, connections and the cache are kept in any case.
func (d *Daemon) Reload() (admin.Reload, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.notify.reloading()
	kept, err := d.reload()
	last := admin.Reload{At: time.Now(), OK: err == nil, Restart: kept}
	if err != nil {
		last.Error = oneLine(err)
		d.log.Error("reload failed; keeping the previous settings", "err", last.Error)
	}
	d.last.Store(&last)
	d.notify.ready(d.status())
	return last, err
}

// oneLine is an error without the lines it shows.
func oneLine(err error) string {
	if bad, ok := errors.AsType[*settings.Error](err); ok {
		return bad.Summary()
	}
	return err.Error()
}

// reload returns the settings that wait for a restart.
func (d *Daemon) reload() (kept []string, err error) {
	next, err := settings.Load(d.options.ConfigPath)
	if err != nil {
		return nil, err
	}
	next.Warnings = append(next.Warnings, fewFiles(next)...)
	old := d.loaded.Load()
	kept = keep(next, old)
	// All or nothing: what can fail comes first. The resolvers come before the rest, because only they depend on more than
	// the settings: on resolv.conf.
	if err = d.configureStubs(next); err == nil {
		err = errors.Join(d.site.Configure(d.siteOptions(next)), d.prober.Configure(d.probeOptions(next)))
	}
	if err != nil {
		return kept, errors.Join(err, d.configureStubs(old), d.site.Configure(d.siteOptions(old)), d.prober.Configure(d.probeOptions(old)))
	}
	d.apply(next)
	d.loaded.Store(next)
	select {
	case d.turned <- struct{}{}:
	default:
	}
	for _, key := range kept {
		d.log.Warn("this setting takes effect after a restart only", "setting", key)
	}
	for _, w := range next.Warnings {
		d.log.Warn("settings", "warning", w)
	}
	d.log.Info("reloaded", "settings", next.Path, "found", next.Found, "mode", next.Mode, "overrides", len(next.Rules))
	return kept, nil
}

// apply makes settings effective. It cannot fail.
func (d *Daemon) apply(l *settings.Loaded) {
	d.logs.configure(l.LogLevel(), l.Log.Format)
	d.cache.SetMaxEntries(l.Cache.MaxEntries)
	d.store.Configure(d.storeOptions(l))
	d.server.SetLimits(d.limits(l))
	d.service.Configure(d.lookupSettings(l))
}

// keep puts back what only a restart can change, and names what would have changed.
func keep(next, old *settings.Loaded) (kept []string) {
	if !slices.Equal(next.Server.Listen, old.Server.Listen) {
		next.Server.Listen, kept = old.Server.Listen, append(kept, "server.listen")
	}
	for _, s := range []struct {
		key       string
		next, old *string
	}{
		{"server.socket_mode", &next.Server.SocketMode, &old.Server.SocketMode},
		{"server.socket_group", &next.Server.SocketGroup, &old.Server.SocketGroup},
		{"cache.state_dir", &next.Cache.StateDir, &old.Cache.StateDir},
		{"admin.socket", &next.Admin.Socket, &old.Admin.Socket},
		{"metrics.listen", &next.Metrics.Listen, &old.Metrics.Listen},
		{"http.listen", &next.HTTP.Listen, &old.HTTP.Listen},
		{"dns.second_opinion", &next.DNS.SecondOpinion, &old.DNS.SecondOpinion},
		{"fleet.url", &next.Fleet.URL, &old.Fleet.URL},
		{"fleet.key_file", &next.Fleet.KeyFile, &old.Fleet.KeyFile},
		{"fleet.previous_key_file", &next.Fleet.PreviousKeyFile, &old.Fleet.PreviousKeyFile},
		{"fleet.prefix", &next.Fleet.Prefix, &old.Fleet.Prefix},
		{"fleet.pull", &next.Fleet.Pull, &old.Fleet.Pull},
	} {
		if *s.next != *s.old {
			*s.next, kept = *s.old, append(kept, s.key)
		}
	}
	return kept
}
