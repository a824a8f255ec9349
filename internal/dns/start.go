package dns

import "context"

// Call is a lookup that was started. It has its answer when Done is closed.
type Call struct {
	Question Question
	Done     chan struct{}
	RRset    *RRset
	Err      error
}

// Start starts a lookup. A resolver with a method Start needs no goroutine for that: it starts nothing after ctx has
// ended, and the lookup continues when ctx ends. Other lookups end with ctx.
func Start(ctx context.Context, r Resolver, q Question, e Effort) *Call {
	if s, ok := r.(interface {
		Start(ctx context.Context, q Question, e Effort) *Call
	}); ok {
		return s.Start(ctx, q, e)
	}
	c := &Call{Question: q, Done: make(chan struct{}), Err: &Error{Question: q, Reason: "internal error"}}
	go func() {
		defer close(c.Done)
		defer func() { _ = recover() }() // the error stays
		c.RRset, c.Err = r.Lookup(ctx, q, e)
	}()
	return c
}

// Ended waits until the lookup has ended, and returns false if ctx ends before.
func (c *Call) Ended(ctx context.Context) bool {
	select {
	case <-c.Done:
		return true
	default:
	}
	select {
	case <-c.Done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Answer returns the answer, or an error if the lookup has not ended.
func (c *Call) Answer() (*RRset, error) {
	select {
	case <-c.Done:
		return c.RRset, c.Err
	default:
		return nil, &Error{Question: c.Question, Reason: "no answer in time", Err: context.DeadlineExceeded}
	}
}
