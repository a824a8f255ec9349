package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress shows on a terminal what a command is doing, once it has taken a second.
type progress struct {
	out io.Writer

	mu    sync.Mutex
	slow  bool   // the second is over
	doing string // the latest step
}

// start begins to measure the time. The returned function ends it.
func (p *progress) start() (stop func()) {
	const quick = time.Second
	timer := time.AfterFunc(quick, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.slow = true
		p.print()
	})
	return func() {
		timer.Stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.slow, p.doing = false, ""
	}
}

// now records what is being done, and shows it if the command is slow.
func (p *progress) now(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing = what
	if p.slow {
		p.print()
	}
}

// print writes the latest step. The caller holds the lock.
func (p *progress) print() {
	if p.doing != "" {
		_, _ = fmt.Fprintln(p.out, p.doing+" ...") // a terminal that is gone needs no progress
	}
}
