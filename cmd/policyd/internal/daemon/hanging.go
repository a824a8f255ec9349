package daemon

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// afterDrain is how long the shutdown of everything else may take: a file system that does not answer must not keep the
// process running.
const afterDrain = 900 * time.Millisecond

// Await calls f and reports whether it ended before ctx. Otherwise f continues by itself: a system call on a file
// system that does not answer cannot be interrupted.
func Await(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// stop drains the server, ends the parts, and waits for them until afterDrain.
func (d *Daemon) stop(end func(), parts *errgroup.Group) {
	limit, cancel := context.WithTimeout(context.Background(), d.loaded.Load().DrainTimeout()+afterDrain)
	defer cancel()
	if !Await(limit, func() {
		d.drain()
		end()
		_ = parts.Wait() // the caller already has the first error
	}) {
		d.log.Warn("stopping without waiting for a part that does not end", "err", limit.Err())
	}
}
