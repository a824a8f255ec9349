// Package daemon is `policyd serve`: it builds everything from the settings, runs it, reloads it and shuts it down.
package daemon

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/socketmap"
)

// Options are what the command line and the environment determine.
type Options struct {
	ConfigPath string // the settings file; "" means the default one, which does not have to exist
	Version    string
	Stderr     io.Writer // gets the log
	Journal    bool      // the log has the journal's form, unless the settings say otherwise
	// Passed are the listeners from systemd. If there are any, they replace those in the settings.
	Passed     []net.Listener
	ResolvConf string           // the resolv.conf(5) for dns.servers = []; "" means /etc/resolv.conf
	Hangup     <-chan os.Signal // asks for a reload; it may be nil
}

// Daemon is the service. Make one with New, and Run it once.
type Daemon struct {
	options Options
	started time.Time
	level   slog.LevelVar
	log     *slog.Logger
	// maxPolicies and maxConnections follow from the memory limit.
	maxPolicies, maxConnections int

	stub     *stub.Stub
	site     *postfix.Site
	cache    *dnscache.Cache
	prober   *probe.Prober
	store    *stsstore.Store
	report   *report.Store
	promises *promises.Store
	fleet    *fleet.Fleet // nil where fleet.url is empty
	second   *stub.Stub   // nil where dns.second_opinion is empty
	engine   gather.Engine
	service  *lookup.Service
	server   *socketmap.Server
	metrics  *metrics.Metrics // nil where metrics.listen is empty

	reloading sync.Mutex    // held by Reload
	notifying chan struct{} // full while notify sends; unlike a Mutex, it lets the one that waits longest continue
	loaded    atomic.Pointer[settings.Loaded]
	last      atomic.Pointer[status.Reload]
	listeners []*listener   // set by Run before it starts anything that reads it
	ready     atomic.Bool   // the listeners are open
	interval  time.Duration // the interval between checks of the paths of unix sockets
}

// New reads the settings and builds a Daemon. The error is a *settings.Error if they are invalid.
func New(o Options) (*Daemon, error) {
	loaded, err := o.load()
	if err != nil {
		return nil, err
	}
	d := &Daemon{options: o, started: time.Now(), interval: socketInterval, notifying: make(chan struct{}, 1)}
	d.loaded.Store(loaded)
	_ = d.level.UnmarshalText([]byte(loaded.Log.Level)) // checked
	d.log = newLog(o.Stderr, &d.level, loaded.Log.Format, o.Journal)
	if loaded.Metrics.Listen != "" {
		d.metrics = metrics.New(prometheus.NewRegistry(), d.Status)
	}
	if d.stub, err = stub.New(d.stubOptions(loaded)); err != nil {
		return nil, err
	}
	setCollectorPace()
	d.cache = dnscache.New(d.stub, dnscache.Options{
		MaxEntries: loaded.Cache.MaxEntries, MaxBytes: d.limitMemory(memlimit.FromCgroup), Epoch: d.stub.Epoch,
		Contradicted: d.stub.RetestSoon, Logger: d.log,
	})
	d.site = postfix.New(loaded.Site(d.log))
	d.promises = promises.New(promises.Options{
		StateDir: loaded.Cache.StateDir, Log: d.log,
		Seen:      func(domain string) { d.share(fleet.Promise, domain) },
		Withdrawn: func(domain string) { d.unshare(fleet.Promise, domain) },
	})
	d.store = stsstore.New(d.storeOptions(loaded))
	if err := errors.Join(d.joinFleet(loaded), d.configureSecond(loaded)); err != nil {
		return nil, err
	}
	d.prober = probe.New(loaded.Probe(d.cache, d.site, d.log))
	d.report = report.New(report.Options{StateDir: loaded.Cache.StateDir, Log: d.log})
	d.engine = gather.Engine{
		Resolver: d.cache, STS: d.store, Site: d.site, Verdict: d.prober.Verdict,
		Validates: d.stub.Validates, History: d.promises.History,
	}
	sources := lookup.Sources{
		Engine: d.engine, Promised: d.promises.Observe, WantProbe: d.prober.Want, Record: d.report.Record,
		Version: func() uint64 { return d.cache.Version() + d.store.Version() }, // each of the two only grows
	}
	if d.metrics != nil {
		sources.Observe = d.metrics.Lookup
	}
	d.service = lookup.New(sources, loaded.Lookup(), d.log)
	d.server = &socketmap.Server{Handler: d.service, Logger: d.log}
	d.server.SetLimits(loaded.Limits(d.maxConnections))
	return d, nil
}
