package postfix

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// question is a search in a table. Without keys it is for the hosts in brackets in all results.
type question struct {
	at    Commands
	table string
	keys  string
}

// answer has the keys or the hosts that were found, or a failure. It lasts as long as the view, and a failure less.
type answer struct {
	found  []string
	err    error
	failed time.Time
}

// Remote senders choose the keys, so the number of answers is bounded, like that of the processes.
const (
	maxAnswers  = 4096
	failureLife = 15 * time.Second
)

// known returns a kept answer, and false if there is none. A table that has just failed fails for all keys.
func (v *view) known(q question) (answer, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	failure := v.searches[question{at: q.at, table: q.table}]
	if failure.err != nil && time.Since(failure.failed) < failureLife {
		return failure, true
	}
	a, ok := v.searches[q]
	return a, ok && a.err == nil
}

// search returns a kept answer, or runs a command for it. If it may not wait, the error is dns.ErrNotCached.
func (s *Site) search(ctx context.Context, v *view, q question, e dns.Effort) answer {
	if a, ok := v.known(q); ok {
		return a
	}
	if e.CacheOnly {
		return answer{err: dns.ErrNotCached}
	}
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return answer{err: fmt.Errorf("%s was not asked: %w", q.table, err)}
	}
	defer s.slots.Release(1)
	if a, ok := v.known(q); ok {
		return a // of a concurrent search
	}
	var a answer
	if q.keys == "" {
		a.found, a.err = q.at.resultHosts(ctx, q.table)
	} else {
		a.found, a.err = q.at.Query(ctx, q.table, strings.Fields(q.keys))
	}
	if a.err != nil {
		a = answer{err: fmt.Errorf("%s cannot be asked: %w", q.table, a.err), failed: time.Now()}
		q.keys = ""
	}
	if ctx.Err() == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.searches) >= maxAnswers {
			clear(v.searches)
		}
		v.searches[q] = a
	}
	return a
}
