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

// tables asks Postfix's tables and remembers the answers for a while. Strangers choose the domains, so
// what is remembered and what runs at a time are bounded.
type tables struct {
	slots chan struct{} // one for each process that may run

	mu         sync.Mutex // guards what follows
	young, old map[question]answer
	failing    map[string]failure // by table
	listings   map[question]listing
	generation int // answers of before a flush are not remembered after it
}

// question is what a table was asked for. The keys follow from the domain and the list.
type question struct {
	at    Commands
	table string
	keys  string
}

type answer struct {
	found   string
	expires time.Time
}

type failure struct {
	err   error
	retry time.Time
}

const (
	maxProcesses = 4
	maxAnswers   = 4096
	answerLife   = time.Minute
	failureLife  = 15 * time.Second
)

func newTables() *tables {
	t := &tables{slots: make(chan struct{}, maxProcesses)}
	t.flush()
	return t
}

// flush forgets all answers.
func (t *tables) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.young, t.old, t.failing = map[question]answer{}, map[question]answer{}, map[string]failure{}
	t.listings = map[question]listing{}
	t.generation++
}

// problem says which table fails, "" for none.
func (t *tables) problem() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := ""
	for _, f := range t.failing {
		if text := f.err.Error(); first == "" || text < first {
			first = text
		}
	}
	return first
}

// known returns what is remembered, otherwise dns.ErrNotCached. A table that has just failed counts as failing.
func (t *tables) known(_ context.Context, q question) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	a, ok := t.young[q]
	if !ok {
		a, ok = t.old[q]
	}
	if ok && now.Before(a.expires) {
		return a.found, nil
	}
	if f, ok := t.failing[q.table]; ok && now.Before(f.retry) {
		return "", f.err
	}
	return "", dns.ErrNotCached
}

// ask returns what is remembered, or asks the table.
func (t *tables) ask(ctx context.Context, q question) (string, error) {
	found, err := t.known(ctx, q)
	if !errors.Is(err, dns.ErrNotCached) {
		return found, err
	}
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return "", fmt.Errorf("%s was not asked: %w", q.table, ctx.Err())
	}
	// Somebody else may have asked meanwhile.
	if found, err = t.known(ctx, q); !errors.Is(err, dns.ErrNotCached) {
		return found, err
	}
	generation := t.now()
	found, err = q.at.Query(ctx, q.table, strings.Fields(q.keys))
	if err != nil {
		err = fmt.Errorf("%s cannot be asked: %w", q.table, err)
	}
	if ctx.Err() == nil {
		t.remember(q, generation, found, err)
	}
	return found, err
}

func (t *tables) now() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.generation
}

func (t *tables) remember(q question, generation int, found string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if generation != t.generation {
		return
	}
	if err != nil {
		t.failing[q.table] = failure{err, time.Now().Add(failureLife)}
		return
	}
	delete(t.failing, q.table)
	if len(t.young) >= maxAnswers/2 {
		t.old, t.young = t.young, map[question]answer{}
	}
	t.young[q] = answer{found, time.Now().Add(answerLife)}
}
