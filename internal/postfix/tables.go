package postfix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// tables looks up keys in Postfix's tables and keeps the answers for a while. Remote senders choose the keys, so the
// number of answers and of processes is bounded.
type tables struct {
	slots chan struct{} // one per running process

	mu    sync.Mutex // guards what follows
	known map[question]answer
	// generation changes with each flush: an answer from before is not kept after it.
	generation int
}

// question is a lookup in a table. The zero keys stand for the table as a whole.
type question struct {
	at    Commands
	table string
	keys  string
}

// answer is the key that was found, or for a whole table the hosts in its results, or a failure.
type answer struct {
	found   string
	hosts   map[string]bool
	err     error
	expires time.Time
}

const (
	maxProcesses = 4
	maxAnswers   = 4096
	answerLife   = time.Minute
	failureLife  = 15 * time.Second
)

func newTables() *tables {
	return &tables{slots: make(chan struct{}, maxProcesses), known: map[question]answer{}}
}

// flush forgets all answers.
func (t *tables) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = map[question]answer{}
	t.generation++
}

// recall returns a kept answer, or one with dns.ErrNotCached. A table that has just failed fails for all keys.
func (t *tables) recall(q question) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if a, ok := t.known[q]; ok && now.Before(a.expires) {
		return a
	}
	if a, ok := t.known[question{at: q.at, table: q.table}]; ok && a.err != nil && now.Before(a.expires) {
		return a
	}
	return answer{err: dns.ErrNotCached}
}

// ask returns a kept answer, or runs a command for it.
func (t *tables) ask(ctx context.Context, q question) answer {
	if a := t.recall(q); !errors.Is(a.err, dns.ErrNotCached) {
		return a
	}
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return answer{err: fmt.Errorf("%s was not asked: %w", q.table, ctx.Err())}
	}
	// A concurrent lookup may have found it.
	if a := t.recall(q); !errors.Is(a.err, dns.ErrNotCached) {
		return a
	}
	t.mu.Lock()
	generation := t.generation
	t.mu.Unlock()
	a := answer{expires: time.Now().Add(answerLife)}
	if q.keys == "" {
		a.hosts, a.err = q.at.resultHosts(ctx, q.table)
	} else {
		a.found, a.err = q.at.Query(ctx, q.table, strings.Fields(q.keys))
	}
	if a.err != nil {
		a = answer{err: fmt.Errorf("%s cannot be asked: %w", q.table, a.err), expires: time.Now().Add(failureLife)}
		q.keys = ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if generation == t.generation && ctx.Err() == nil {
		if len(t.known) >= maxAnswers {
			t.known = map[question]answer{}
		}
		t.known[q] = a
	}
	return a
}
