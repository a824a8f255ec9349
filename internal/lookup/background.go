package lookup

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/policy"
)

// The bounds on work that remote parties can cause: smtpd(8) looks up the route of every envelope sender.
const (
	backgroundWorkers = 64   // lookups at a time
	backgroundQueue   = 1024 // lookups waiting for a worker; the oldest is dropped
	waitingRequests   = 8    // requests that wait for a lookup, over all connections
	backgroundTimeout = 15 * time.Second
	// spare is the part of Wait that is left for everything around a lookup, so that the answer is there by Wait.
	spare = 8
)

// background finds routes away from the requests that asked for them. One domain is looked up once at a time, however
// many requests ask.
type background struct {
	route   func(context.Context, policy.Nexthop) (policy.Decision, *inForce) // does not panic
	log     *slog.Logger
	waiting chan struct{} // one token per request that waits
	queue   chan *job     // waiting for a worker, oldest first; only ask adds to it
	full    oncelog.Limiter

	mu      sync.Mutex              // guards what follows, and adding to queue
	jobs    map[policy.Nexthop]*job // waiting and running
	running int                     // jobs that workers are doing
}

// job is one route being found. decision and set, the settings that it was made under, are written before done is
// closed and not after. begun is guarded by the mutex of background.
type job struct {
	next     policy.Nexthop
	done     chan struct{}
	begun    bool
	decision policy.Decision
	set      *inForce
}

func newBackground(route func(context.Context, policy.Nexthop) (policy.Decision, *inForce),
	log *slog.Logger) *background {
	return &background{
		route: route, log: log, waiting: make(chan struct{}, waitingRequests), queue: make(chan *job, backgroundQueue),
		jobs: map[policy.Nexthop]*job{},
	}
}

// wait finds the route of next and waits for it, for as long as the settings allow. It returns false without waiting if
// too many requests wait already, or if no worker is free: in a flood of slow domains there would be none in time, and
// all mail would wait. It also returns false if the settings have changed. The lookup continues in any case, and its
// answers are in the cache then.
func (b *background) wait(ctx context.Context, next policy.Nexthop, set *inForce) (policy.Decision, bool) {
	j, soon := b.ask(next)
	if !soon {
		return policy.Decision{}, false
	}
	select {
	case b.waiting <- struct{}{}:
		defer func() { <-b.waiting }()
	default:
		return policy.Decision{}, false
	}
	timer := time.NewTimer(set.Wait - set.Wait/spare)
	defer timer.Stop()
	select {
	case <-j.done:
		return j.decision, j.set == set
	case <-timer.C:
	case <-ctx.Done():
	}
	return policy.Decision{}, false
}

// ask returns the job for next, a new one if there is none, and whether it is in progress or a worker is free for it.
func (b *background) ask(next policy.Nexthop) (j *job, soon bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	soon = b.running < backgroundWorkers
	if j, ok := b.jobs[next]; ok {
		return j, soon || j.begun
	}
	j = &job{next: next, done: make(chan struct{})}
	b.jobs[next] = j
	if len(b.queue) < backgroundQueue {
		b.queue <- j
		return j, soon
	}
	select {
	case oldest := <-b.queue:
		delete(b.jobs, oldest.next)
		if times, due := b.full.Due(); due {
			b.log.Warn("too many routes of unknown domains to look up; their mail goes to port 25 under its TLS policy",
				"waiting", backgroundQueue, "dropped", times)
		}
	default: // a worker has just taken it
	}
	b.queue <- j
	return j, soon
}

// run does jobs until ctx ends.
func (b *background) run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range backgroundWorkers {
		workers.Go(func() {
			for {
				select {
				case j := <-b.queue:
					b.do(ctx, j)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// do finds one route.
func (b *background) do(ctx context.Context, j *job) {
	b.mu.Lock()
	j.begun = true
	b.running++
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	j.decision, j.set = b.route(ctx, j.next)
	b.mu.Lock()
	delete(b.jobs, j.next)
	b.running--
	b.mu.Unlock()
	close(j.done)
}
