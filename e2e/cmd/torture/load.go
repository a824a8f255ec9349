package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// load asks questions all the time, as the processes of Postfix do, and checks every answer.
type load struct {
	connections int
	pause       time.Duration // how long each connection waits before a question
	questions   []question
	// gaps means that there are times without a policyd, in which all clients wait.
	gaps bool

	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu      sync.Mutex
	asked   int
	temp    int
	wrong   []string // the first few
	slowest time.Duration
	late    time.Duration   // how much longer than promised a lookup may take, because the machine is busy
	routes  []time.Duration // how long each transport lookup took
}

// start begins to ask questions, until end is called. It returns after the first answer.
func (l *load) start(ctx context.Context, p *policyd) *load {
	ctx, l.cancel = context.WithCancel(ctx)
	for range l.connections {
		l.ended.Go(func() { l.drive(ctx, p.Address) })
	}
	must.Do(poll(ctx, "the load asks", func() bool { return l.asks(1) }))
	return l
}

// asks reports whether at least n questions were asked.
func (l *load) asks(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked >= n
}

func (l *load) drive(ctx context.Context, address string) {
	var c *socketmap.Client
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	ask := func(q question) (r socketmap.Reply, err error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if c == nil {
			if c, err = socketmap.Dial(ctx, address); err != nil {
				c = nil
				return r, err
			}
		}
		if r, err = c.Lookup(ctx, q.request); err != nil {
			_ = c.Close()
			c = nil
		}
		return r, err
	}
	for paused := time.Now(); daemon.Sleep(ctx, l.pause) == nil; paused = time.Now() {
		l.mu.Lock()
		l.late = max(l.late, 5*(time.Since(paused)-l.pause)) // a lookup is handed on about five times, a pause once
		q := l.questions[rand.IntN(len(l.questions))]
		l.mu.Unlock()
		begun := time.Now()
		r, err := ask(q)
		if err != nil && ctx.Err() == nil {
			r, err = ask(q) // on a new connection, as Postfix does: the old one may have been idle for too long
		}
		if ctx.Err() == nil {
			l.note(q, r, err, time.Since(begun)) //nolint:contextcheck // it only counts
		}
	}
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
	case err == nil && q.allows(r):
		if r.Status == socketmap.StatusTemp {
			l.temp++
		}
	case len(l.wrong) < kept:
		l.wrong = append(l.wrong, fmt.Sprintf("%s %s: %q %v", q.request.Map, q.request.Key, r, err))
	}
}

func (l *load) change(f func([]question) []question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.questions = f(slices.Clone(l.questions))
}

// end stops asking and returns a summary. An answer that is weaker than the facts, or none, is an error.
func (l *load) end() string {
	l.cancel()
	l.ended.Wait()
	must.Be(len(l.wrong) == 0, "weaker than the facts, or without an answer: %q", l.wrong)
	slices.Sort(l.routes)
	// 200 ms is promised. A busy machine may take many times that, and never the timeout of a resolver, 3 s.
	const inTime = 2 * time.Second
	route := daemon.Quantile(l.routes, 0.99)
	must.Be(route <= inTime+l.late || l.gaps, "routes took %v at p99, %v is allowed", route, inTime+l.late)
	return fmt.Sprintf("%d lookups, none weaker, %d TEMP, slowest %.1f s, transport p99 %s", l.asked, l.temp,
		l.slowest.Seconds(), daemon.Millis(route))
}
