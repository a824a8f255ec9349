package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
)

// Run opens all listeners, serves until ctx ends, and then answers the lookups that have begun. It returns nil after
// that, within drain_timeout plus one second, and an error if the daemon cannot start, if something breaks, or
// ErrLostSocket. A Daemon runs once.
func (d *Daemon) Run(ctx context.Context) error {
	if err := d.openAll(ctx); err != nil {
		return errors.Join(err, d.store.Close())
	}
	// The parts outlive ctx: lookups need them until the last one is answered.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, life := errgroup.WithContext(life)
	parts := []func(context.Context) error{d.stub.Run, d.cache.Run, d.site.Run, d.prober.Run, d.store.Run,
		d.report.Run, d.promises.Run, d.service.Run, d.hangups, d.watchRoots, d.watchdog, d.watchClock, d.runFleet,
		d.askSecond}
	for _, ls := range d.listeners {
		parts = append(parts, ls.run)
	}
	for _, part := range parts {
		group.Go(func() error { return part(life) })
	}
	l := d.loaded.Load()
	d.log.Info("started", "version", d.options.Version, "settings", l.Path, "found", l.Found, "mode", l.Mode,
		"overrides", len(l.Rules))
	d.logWarnings(l)
	d.ready.Store(true)
	d.notifyReady()
	select {
	case <-ctx.Done():
	case <-life.Done():
	}
	err := context.Cause(life)
	d.stop(end, group)
	return cmp.Or(err, d.lostSocket())
}

// every calls f now, and then at an interval, until ctx ends or f returns an error.
func every(ctx context.Context, interval time.Duration, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := f(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// drain stops the server.
func (d *Daemon) drain() {
	timeout := d.loaded.Load().DrainTimeout()
	d.notify(fmt.Sprintf("%s\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping,
		(timeout + 10*time.Second).Microseconds())) // TimeoutStopSec= may be shorter than drain_timeout
	d.log.Info("stopping", "drain_timeout", timeout)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		d.log.Warn("some lookups took longer than drain_timeout; they were answered TEMP or their connections closed",
			"drain_timeout", timeout)
	}
	d.log.Info("stopped")
}
