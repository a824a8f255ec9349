package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// load asks questions all the time, as the processes of Postfix do, and checks every answer.
type load struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu       sync.Mutex
	asked    int
	temp     int
	again    int // asked again on a new connection, as Postfix does
	failed   []string
	weaker   []string
	slowest  time.Duration
	routes   []time.Duration // how long each transport lookup took
	question []question
	gaps     bool
}

// loading is how a load asks.
type loading struct {
	connections int
	pause       time.Duration
	questions   []question
	// gaps says that there are times without a policyd, in which all wait.
	gaps bool
}

// load starts to ask. End it.
func (p *policyd) load(ctx context.Context, how loading) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, question: how.questions, gaps: how.gaps}
	for range how.connections {
		l.ended.Go(func() { l.drive(ctx, p.Address, how.pause) })
	}
	return l
}

// drive is one client.
func (l *load) drive(ctx context.Context, address string, pause time.Duration) {
	var c *socketmap.Client
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for wait(ctx, pause) == nil {
		l.mu.Lock()
		q := l.question[rand.IntN(len(l.question))]
		l.mu.Unlock()
		began := time.Now()
		r, err := lookup(ctx, address, &c, q.request)
		if err != nil && ctx.Err() == nil {
			// Like Postfix, once more on a new connection: the old one may have been closed for being idle.
			l.mu.Lock()
			l.again++
			l.mu.Unlock()
			r, err = lookup(ctx, address, &c, q.request)
		}
		if ctx.Err() != nil {
			return
		}
		l.note(q, r, err, time.Since(began))
	}
}

// lookup asks on *c, which it makes where there is none, and closes after an error.
func lookup(ctx context.Context, address string, c **socketmap.Client, request socketmap.Request) (socketmap.Reply, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if *c == nil {
		fresh, err := socketmap.Dial(limited, address)
		if err != nil {
			return socketmap.Reply{}, err
		}
		*c = fresh
	}
	r, err := (*c).Lookup(limited, request)
	if err != nil {
		_ = (*c).Close()
		*c = nil
	}
	return r, err
}

func (l *load) note(q question, r socketmap.Reply, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const kept = 3
	l.asked++
	l.slowest = max(l.slowest, took)
	if q.request.Map == "transport" {
		l.routes = append(l.routes, took)
	}
	switch {
	case err != nil:
		if len(l.failed) < kept {
			l.failed = append(l.failed, fmt.Sprintf("%s %s: %v", q.request.Map, q.request.Key, err))
		}
	case !q.allows(r):
		if len(l.weaker) < kept {
			l.weaker = append(l.weaker, fmt.Sprintf("%s %s: %q", q.request.Map, q.request.Key, r))
		}
	case r.Status == socketmap.StatusTemp:
		l.temp++
	}
}

// add has more questions asked.
func (l *load) add(q []question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.question = slices.Concat(l.question, q)
}

// end stops asking and says how it went. An answer that is weaker than the facts, or none, is an error.
func (l *load) end() (string, error) {
	l.cancel()
	l.ended.Wait()
	var errs []error
	if len(l.weaker) > 0 {
		errs = append(errs, fmt.Errorf("weaker than the facts: %v", l.weaker))
	}
	if len(l.failed) > 0 {
		errs = append(errs, fmt.Errorf("without an answer: %v", l.failed))
	}
	if l.asked == 0 {
		errs = append(errs, errors.New("nothing was asked"))
	}
	slices.Sort(l.routes)
	// The promise is 200 ms; on a machine that is busy with this it may be a few times that, and never a resolver's time-out.
	const inTime = time.Second
	route := quantile(l.routes, 0.99)
	if route > inTime && !l.gaps {
		errs = append(errs, fmt.Errorf("transport lookups took %v at p99", route))
	}
	return fmt.Sprintf("%d lookups, none weaker, %d TEMP, slowest %.1f s, p99 of transport %s", l.asked, l.temp, l.slowest.Seconds(), millis(route)), errors.Join(errs...)
}
