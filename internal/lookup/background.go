package lookup

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/policy"
)

// The bounds on work that remote parties can cause: smtpd(8) looks up the route of every envelope sender.
const (
	backgroundWorkers = 64   // lookups at a time
	backgroundQueue   = 1024 // lookups waiting for a worker; the oldest is dropped
	waitingRequests   = 8    // requests that wait for a lookup, over all connections
	backgroundTimeout = 15 * time.Second
)

// background looks up routes outside the requests that asked for them. A domain is looked up only once at a time,
// however many requests ask.
type background struct {
	waiting *semaphore.Weighted // a place for each request that may wait
	full    oncelog.Limiter
	queue   chan *job // waiting for a worker, oldest first

	jobsMu sync.Mutex              // guards jobs, and adding to queue
	jobs   map[policy.Nexthop]*job // both waiting and in progress
}

// job is one route being found. decision is written before done is closed and not after.
type job struct {
	next     policy.Nexthop
	done     chan struct{}
	set      *settingsAndMemo // the settings for the decision; nil until a worker begins; jobsMu guards it
	decision policy.Decision
}

// waitForRoute finds the route of next and waits for it, for as long as the settings allow. It returns false without
// waiting if too many requests wait already, or if no worker is free: in a flood of slow domains no worker would be
// free in time, and all mail would wait. It also returns false if the settings have changed. The lookup continues in
// any case, so its answers are in the cache later.
func (s *Service) waitForRoute(c *call, next policy.Nexthop) (d policy.Decision, ok bool) {
	j, soon := s.lookUpRoute(next)
	if !soon || !s.waiting.TryAcquire(1) {
		return d, false
	}
	defer s.waiting.Release(1)
	// The rest of Wait is for everything around the lookup, so that the answer is there in time.
	ctx, cancel := context.WithTimeout(c.ctx, c.set.Wait*7/8)
	defer cancel()
	select {
	case <-j.done:
		return j.decision, j.set == c.set
	case <-ctx.Done():
		return d, false
	}
}

// lookUpRoute returns the job for next, which may be new, and whether it is in progress or a worker is free for it.
func (s *Service) lookUpRoute(next policy.Nexthop) (j *job, soon bool) {
	s.jobsMu.Lock()
	defer s.jobsMu.Unlock()
	soon = len(s.jobs)-len(s.queue) < backgroundWorkers
	if j, ok := s.jobs[next]; ok {
		return j, soon || j.set != nil
	}
	j = &job{next: next, done: make(chan struct{}), decision: policy.Decision{Verdict: policy.None}}
	s.jobs[next] = j
	if len(s.queue) == backgroundQueue {
		s.dropOldest()
	}
	s.queue <- j // there is room: nothing else adds to the queue
	return j, soon
}

// dropOldest makes room in the queue. s.jobsMu is held.
func (s *Service) dropOldest() {
	select {
	case oldest := <-s.queue:
		delete(s.jobs, oldest.next)
		if times, due := s.full.Due(); due {
			s.log.Warn("too many routes of unknown domains to look up; their mail goes to port 25 under its TLS policy",
				"waiting", backgroundQueue, "dropped", times)
		}
	default: // a worker has just taken it
	}
}

// Run looks up routes in the background until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range backgroundWorkers {
		workers.Go(func() {
			for {
				select {
				case j := <-s.queue:
					s.findRoute(ctx, j)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// findRoute finds one route. A panic ends in no route.
func (s *Service) findRoute(ctx context.Context, j *job) {
	s.jobsMu.Lock()
	j.set = s.current.Load()
	s.jobsMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer func() {
		cancel()
		if p := recover(); p != nil {
			s.panicked("background", p)
		}
		s.jobsMu.Lock()
		delete(s.jobs, j.next)
		s.jobsMu.Unlock()
		close(j.done)
	}()
	facts := policy.NewFacts(j.next) // a failure is a fact too
	j.decision, _ = s.sources.Decide(ctx, policy.Route, facts, j.set.Policy, dns.Effort{Untrusted: true})
}
