package postfix

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// tableQuery is a search in a table. Without keys it is for the hosts in brackets in all results.
type tableQuery struct {
	at    Commands // the commands of the instance that has the table
	table string
	keys  string // separated by spaces
}

// tableResult has the keys or the hosts that were found, or a failure. It is kept as long as the view, and a failure
// for failureLife.
type tableResult struct {
	found  []string
	err    error
	failed time.Time
}

// Remote senders choose the keys, so the number of results is bounded, like that of the processes.
const (
	maxResults  = 4096
	failureLife = 15 * time.Second
)

// known returns a kept result, and false if there is none. A table that has just failed fails for all keys.
func (v *view) known(q tableQuery) (tableResult, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	failure := v.searches[tableQuery{at: q.at, table: q.table}]
	if failure.err != nil && time.Since(failure.failed) < failureLife {
		return failure, true
	}
	r, ok := v.searches[q]
	return r, ok && r.err == nil
}

// search returns a kept result, or runs a command for it. If it may not wait, the error is dns.ErrNotCached.
func (s *Site) search(ctx context.Context, v *view, q tableQuery, effort dns.Effort) tableResult {
	if r, ok := v.known(q); ok {
		return r
	}
	if effort.CacheOnly {
		return tableResult{err: dns.ErrNotCached}
	}
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return tableResult{err: fmt.Errorf("%s was not asked: %w", q.table, err)}
	}
	defer s.slots.Release(1)
	if r, ok := v.known(q); ok {
		return r // the result of a concurrent search
	}
	var r tableResult
	if q.keys == "" {
		r.found, r.err = q.at.resultHosts(ctx, q.table)
	} else {
		r.found, r.err = q.at.Query(ctx, q.table, strings.Fields(q.keys))
	}
	if r.err != nil {
		r = tableResult{err: fmt.Errorf("%s cannot be asked: %w", q.table, r.err), failed: time.Now()}
		q.keys = "" // it counts for all keys
	}
	if ctx.Err() == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.searches) >= maxResults {
			clear(v.searches)
		}
		v.searches[q] = r
	}
	return r
}
