package daemon

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/socketmap"
)

// Admin returns what the admin socket shows and changes.
func (d *Daemon) Admin() admin.Daemon {
	return admin.Daemon{
		Status: d.Status, List: d.listCache, Get: d.getDomain, Flush: d.flush, Level: &d.level, Explain: d.Explain,
		Lookup: d.lookup, Report: d.sum,
		Promises: d.listPromises, Promise: d.promise, Forget: d.promises.Forget, Warm: d.warm, Reload: d.Reload,
	}
}

// sum returns the report on the lookups since then.
func (d *Daemon) sum(since time.Time) report.Report {
	r := d.report.Sum(since)
	r.Mode, r.Vanished = d.loaded.Load().Mode, []string{}
	const most = 50
	if d.promiseStatus() != nil {
		r.Vanished = d.vanished(most)
	}
	return r
}

// Status returns how the daemon is doing.
func (d *Daemon) Status() status.Status {
	return status.Status{
		Version: d.options.Version, Go: runtime.Version(), PID: os.Getpid(),
		Started: d.started, Uptime: int64(time.Since(d.started) / time.Second),
		Warnings: append(d.socketWarnings(), d.loaded.Load().Warnings...),
		Settings: d.settingsInForce(), Reload: d.last.Load(), Resolver: d.resolverStatus(), Lookups: d.lookupStatus(),
		Cache: d.cacheStatus(), MTASTS: d.mtastsStatus(), Probes: d.probeStatus(), Promises: d.promiseStatus(),
		Fleet: d.fleetStatus(), Connections: d.connectionStatus(),
	}
}

func (d *Daemon) settingsInForce() status.Settings {
	l := d.loaded.Load()
	s := status.Settings{Mode: l.Mode, Changed: l.Redacted().Changed(), Overrides: len(l.Rules)}
	if l.Found {
		s.File, _ = filepath.Abs(l.Path)
	}
	s.All, _ = json.Marshal(l.Redacted()) // strings, numbers and lists do not fail
	return s
}

func (d *Daemon) resolverStatus() status.Resolver {
	st := d.stub.State()
	return status.Resolver{
		Servers: append([]string{}, st.Servers...), Source: st.Source, Trusted: st.Result != stub.NotTrusted,
		Validating: st.Result == stub.Validating, SelfTest: st.Result.String(), Reason: st.Reason, Checked: st.Checked,
		FailingSince: st.FailingSince, FailingReason: st.FailingReason,
	}
}

func (d *Daemon) lookupStatus() lookup.Stats {
	st := d.service.Stats()
	st.Panics += d.server.Stats().Panics
	return st
}

func (d *Daemon) cacheStatus() status.Cache {
	st := d.cache.Stats()
	return status.Cache{
		Stats: st, MaxEntries: d.loaded.Load().Cache.MaxEntries,
		Answers: map[string]uint64{"secure": st.Secure, "insecure": st.Insecure, "bogus": st.Bogus,
			"failed": st.Failed},
	}
}

func (d *Daemon) connectionStatus() status.Connections {
	st, l := d.server.Stats(), d.loaded.Load()
	return status.Connections{
		Listeners: append([]string{}, d.Listening()...), Open: st.Open, Max: d.limits(l).MaxConnections,
		Total: st.Accepted,
		Dropped: map[string]uint64{"evicted": st.Evicted, "refused": st.Refused, "idle": st.Idle,
			"stalled": st.Stalled},
		Errors: map[string]uint64{
			"malformed": st.Malformed, "stalled": st.Stalled, "write": st.WriteErrors, "accept": st.AcceptErrors,
			"unknown-map": d.service.Stats().UnknownMaps,
		},
		UnknownMaps: d.service.UnknownMaps(),
	}
}

// lookup first does what a lookup of Postfix does. The explanation then finds its facts in the cache.
func (d *Daemon) lookup(ctx context.Context, nexthop string) lookup.Explanation {
	d.handler.ServeSocketmap(ctx, socketmap.Request{Map: "tls-policy", Key: admin.DomainOf(nexthop)})
	return d.Explain(ctx, nexthop)
}
