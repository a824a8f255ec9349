package lookup

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/policy"
)

// The bounds on work that strangers can cause: smtpd(8) looks up the route of every envelope sender.
const (
	backgroundWorkers = 64   // lookups at a time
	backgroundQueue   = 1024 // lookups waiting for a worker; the oldest is dropped
	waitingRequests   = 8    // requests that wait for one, over all connections
	backgroundTimeout = 15 * time.Second
	// spare is the part of Wait that is left for everything around a lookup that was waited for in vain, so that the
	// answer is there by Wait and not begun by then.
	spare = 8
	// saidAgain is how long it is not said again that lookups were dropped.
	saidAgain = time.Minute
)

// background gathers the facts of routes away from the requests that asked for them. One domain is
// gathered once at a time, however many ask.
type background struct {
	gather  func(context.Context, task) policy.Facts // does not panic
	log     *slog.Logger
	waiting chan struct{} // one token a request that waits

	mu      sync.Mutex
	jobs    map[task]*job // waiting and running
	stack   []*job        // waiting for a worker, oldest first
	running int           // jobs that workers are doing
	wake    chan struct{} // a token where the stack may hold something
	said    time.Time     // when it was last logged that lookups were dropped
	dropped int           // since then
}

// task is what is gathered: under one set of settings, so that a reload is obeyed by all that ask after it.
type task struct {
	next policy.Nexthop
	set  *Settings
}

// job is one task being done. facts is written before done is closed and not after. begun is guarded by the
// mutex of background.
type job struct {
	task  task
	done  chan struct{}
	begun bool
	facts policy.Facts
	ok    bool
}

func newBackground(gather func(context.Context, task) policy.Facts, log *slog.Logger) *background {
	return &background{
		gather:  gather,
		log:     log,
		waiting: make(chan struct{}, waitingRequests),
		jobs:    map[task]*job{},
		wake:    make(chan struct{}, 1),
	}
}

// wait has t done and waits for it, for as long as its settings say. It returns false without waiting where too
// many wait already, and where no worker is free: in a flood of slow domains there would not be one in time
// either, and all mail would wait for that. The gathering goes on all the same and leaves its finds in the cache.
func (b *background) wait(ctx context.Context, t task) (policy.Facts, bool) {
	j, soon := b.ask(t)
	if !soon {
		return policy.Facts{}, false
	}
	select {
	case b.waiting <- struct{}{}:
		defer func() { <-b.waiting }()
	default:
		return policy.Facts{}, false
	}
	timer := time.NewTimer(t.set.Wait - t.set.Wait/spare)
	defer timer.Stop()
	select {
	case <-j.done:
		return j.facts, j.ok
	case <-timer.C:
	case <-ctx.Done():
	}
	return policy.Facts{}, false
}

// ask returns the job for t, a new one if there is none, and whether it is being done or a worker is free for it.
func (b *background) ask(t task) (j *job, soon bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	soon = b.running < backgroundWorkers
	if j, ok := b.jobs[t]; ok {
		return j, soon || j.begun
	}
	j = &job{task: t, done: make(chan struct{})}
	b.jobs[t] = j
	b.stack = append(b.stack, j)
	if len(b.stack) > backgroundQueue {
		oldest := b.stack[0]
		b.stack = append(b.stack[:0], b.stack[1:]...)
		delete(b.jobs, oldest.task)
		close(oldest.done)
		b.noteDropped(time.Now())
	}
	b.signal()
	return j, soon
}

// noteDropped logs that a lookup was dropped, once in a while; b.mu is held.
func (b *background) noteDropped(now time.Time) {
	b.dropped++
	if b.said.IsZero() || now.Sub(b.said) >= saidAgain {
		b.log.Warn("more routes of unknown domains are asked for than can be looked up: the oldest are not looked up, and their mail goes to port 25 under its TLS policy",
			slog.Int("waiting", backgroundQueue), slog.Int("dropped", b.dropped))
		b.said, b.dropped = now, 0
	}
}

// signal wakes a worker; b.mu is held.
func (b *background) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns the newest waiting job, whose asker is the likeliest to be still there, or nil.
func (b *background) take() *job {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(b.stack) - 1
	if last < 0 {
		return nil
	}
	j := b.stack[last]
	b.stack[last] = nil
	b.stack = b.stack[:last]
	j.begun = true
	b.running++
	if last > 0 {
		b.signal()
	}
	return j
}

// run works off jobs until ctx ends.
func (b *background) run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range backgroundWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-b.wake:
				}
				for j := b.take(); j != nil && ctx.Err() == nil; j = b.take() {
					b.do(ctx, j)
				}
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// do gathers one job.
func (b *background) do(ctx context.Context, j *job) {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	j.facts, j.ok = b.gather(ctx, j.task), true
	b.mu.Lock()
	delete(b.jobs, j.task)
	b.running--
	b.mu.Unlock()
	close(j.done)
}
