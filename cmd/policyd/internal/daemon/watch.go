package daemon

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/oncelog"
)

// rootsInterval is how often the files with the root certificates are compared.
const rootsInterval = 2 * time.Second

// watchRoots reads the root certificates again when their files change, until ctx ends.
func (d *Daemon) watchRoots(ctx context.Context) error {
	var failures oncelog.Limiter
	return every(ctx, rootsInterval, func() error {
		changed := false
		if !Await(ctx, func() { changed = d.loaded.Load().Roots.Changed() }) || !changed {
			return ctx.Err()
		}
		if err := d.reloadRoots(); err != nil {
			if times, due := failures.Due(); due {
				d.log.Warn("root certificates changed and cannot be used; keeping the previous ones", "times", times,
					"err", err)
			}
		}
		return nil
	})
}

// reloadRoots applies the root certificates as they are on disk now. Without any, the previous ones stay: an update of
// the files may be in progress.
func (d *Daemon) reloadRoots() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	next, err := d.loaded.Load().WithNewRoots()
	if err != nil {
		return err
	}
	if err := d.configure(next); err != nil {
		return err
	}
	d.log.Info("root certificates changed and were read again")
	return nil
}

const (
	clockLook = 10 * time.Second
	// clockStep is by how much a clock must jump to count as set: time synchronization moves it by less.
	clockStep = 30 * time.Second
)

// watchClock logs when the clock of this machine has been set, until ctx ends.
func (d *Daemon) watchClock(ctx context.Context) error {
	last := time.Now()
	return every(ctx, clockLook, func() error {
		now := time.Now()
		d.noteClock(now.Round(0).Sub(last.Round(0)), now.Sub(last)) // without the monotonic readings, and with them
		last = now
		return nil
	})
}

// noteClock logs a step of the wall clock: a difference between its progress and the time that has passed.
func (d *Daemon) noteClock(wall, passed time.Duration) {
	if step := wall - passed; step.Abs() >= clockStep {
		d.log.Warn("system clock was set, or the machine was suspended", "step", step.Round(time.Second))
	}
}
