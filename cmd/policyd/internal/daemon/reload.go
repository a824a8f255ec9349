package daemon

import (
	"context"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
)

// hangups reloads the settings at every signal of Options.Hangup, until ctx ends.
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
func (d *Daemon) Reload() (status.Reload, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.notify(daemon.SdNotifyReloading + "\nSTATUS=Reloading")
	last := status.Reload{}
	next, err := d.options.load()
	if err == nil {
		last.Restart = next.KeepUntilRestart(d.loaded.Load())
		err = d.configure(next)
	}
	if err != nil {
		last.Error = strings.ReplaceAll(err.Error(), "\n", "; ") // the log takes one line per message
		d.log.Error("reload failed; keeping the previous settings", "err", last.Error)
	} else {
		_ = d.level.UnmarshalText([]byte(next.Log.Level)) // checked
		for _, key := range last.Restart {
			d.log.Warn("this setting takes effect after a restart only", "setting", key)
		}
		d.logWarnings(next)
		d.log.Info("reloaded", "settings", next.Path, "found", next.Found, "mode", next.Mode, "overrides",
			len(next.Rules))
	}
	last.At, last.OK = time.Now(), err == nil
	d.last.Store(&last)
	d.notifyReady()
	return last, err
}

func (d *Daemon) logWarnings(l *settings.Loaded) {
	for _, w := range l.Warnings {
		d.log.Warn("settings", "warning", w)
	}
}

// configure makes settings effective in every part, or in none. Only the stub, which reads resolv.conf, can refuse
// settings that were checked, so it comes first. The caller holds d.reloading.
func (d *Daemon) configure(next *settings.Loaded) error {
	if err := d.stub.Configure(d.stubOptions(next)); err != nil {
		return err
	}
	if err := d.configureSecond(next); err != nil {
		return err
	}
	d.site.Configure(next.Site(d.log))
	d.prober.Configure(next.Probe(d.cache, d.site, d.log))
	d.cache.SetMaxEntries(next.Cache.MaxEntries)
	d.store.Configure(d.storeOptions(next))
	d.server.SetLimits(next.Limits(d.maxConnections))
	d.service.Configure(next.Lookup())
	d.loaded.Store(next)
	return nil
}

func (d *Daemon) stubOptions(l *settings.Loaded) stub.Options {
	o := l.Stub(d.log)
	o.ResolvConf, o.Off = d.options.ResolvConf, l.Mode == "off" // then no DNS query is sent, not even by the self-test
	if d.metrics != nil {
		o.Observe = d.metrics.Query
	}
	return o
}

func (d *Daemon) storeOptions(l *settings.Loaded) stsstore.Options {
	o := l.Store(d.cache, d.log)
	o.MaxPolicies = d.maxPolicies
	o.Fetched = func(domain string) { d.share(fleet.Policy, domain) }
	return o
}
