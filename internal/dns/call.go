package dns

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Call is a lookup in progress. RRset or Err is set when Done is closed.
type Call struct {
	Question Question
	Done     chan struct{}
	RRset    *RRset
	Err      error
}

// Ended reports whether the lookup has ended.
func (c *Call) Ended() bool {
	select {
	case <-c.Done:
		return true
	default:
		return false
	}
}

// Starter starts lookups and does not wait for them. With Effort.CacheOnly, or with a context that has ended, the Call
// that it returns has ended too, with what is known at this moment. If the context is Late, the answer can be stale.
type Starter interface {
	Start(ctx context.Context, q Question, e Effort) *Call
}

// Late reports whether the deadline of ctx has passed: the caller has waited as long as it can, so a stale answer is
// better than none. A context that was cancelled is not late, because nothing needs the answer.
func Late(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

// Ask waits for the answer to a question, but not longer than until; after that it returns what is known, including a
// stale answer. The deadline is not part of ctx, because a context for each question would be a large part of the
// cost of asking.
func Ask(ctx context.Context, r Starter, q Question, e Effort, until time.Time) (*RRset, error) {
	call := r.Start(ctx, q, e)
	if firstOf(ctx, time.Until(until), []*Call{call}) < 0 {
		late, cancel := context.WithDeadline(ctx, time.Time{}) // the context is Late, unless ctx was cancelled
		defer cancel()
		call = r.Start(late, q, e)
	}
	return call.RRset, call.Err
}

// firstOf waits for the first of one or two calls to end, but not longer than left. It returns the index of that call,
// or -1 if none has ended.
func firstOf(ctx context.Context, left time.Duration, calls []*Call) int {
	first := slices.IndexFunc(calls, (*Call).Ended)
	if first < 0 && left > 0 {
		var done [2]chan struct{} // nil blocks: there may be only one call
		for i, c := range calls {
			done[i] = c.Done
		}
		select {
		case <-done[0]:
		case <-done[1]:
		case <-time.After(left):
		case <-ctx.Done():
		}
		first = slices.IndexFunc(calls, (*Call).Ended)
	}
	return first
}
