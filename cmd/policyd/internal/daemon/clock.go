package daemon

import (
	"context"
	"time"
)

const (
	clockInterval = 10 * time.Second
	// clockStep is the smallest jump after which the clock counts as set: time synchronization moves it by less.
	clockStep = 30 * time.Second
)

// watchClock logs when the clock of this machine has been set, until ctx ends.
func (d *Daemon) watchClock(ctx context.Context) error {
	last := time.Now()
	return every(ctx, clockInterval, func() error {
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
