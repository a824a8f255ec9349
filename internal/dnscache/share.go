package dnscache

import (
	"context"
	"errors"
	"sync"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

// How many calls run for deliveries, for names that remote parties chose, and to refresh. The shares are separate:
// neither of the others ever takes the place of a delivery.
const maxCalls, maxUntrusted, maxRefreshes = 8192, 256, 256

// share is what one class of lookups may use of the next resolver. Concurrent lookups of a question share one call.
type share struct {
	most int
	work chan func() // for an idle worker

	mu    sync.Mutex
	calls map[dns.Question]*call
}

// call is a call of the next resolver. It has its result when done is closed.
type call struct {
	done  chan struct{}
	rrset *dns.RRset
	err   error
}

func newShare(most int) *share {
	return &share{most: most, work: make(chan func()), calls: map[dns.Question]*call{}}
}

// start makes a call in the background, or joins one for the same question. It continues when the callers give up,
// because the answer is useful later.
func (s *share) start(q dns.Question, lookup func() (*dns.RRset, error)) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if joined := s.calls[q]; joined != nil {
		return joined
	}
	c := &call{done: make(chan struct{})}
	if len(s.calls) >= s.most {
		c.err = &dns.Error{Question: q, Reason: "too many concurrent lookups"}
		close(c.done)
		return c
	}
	s.calls[q] = c
	work := func() {
		c.rrset, c.err = lookup()
		s.mu.Lock()
		delete(s.calls, q)
		s.mu.Unlock()
		close(c.done)
	}
	select {
	case s.work <- work:
	default:
		go work()
	}
	return c
}

// run keeps workers for calls until ctx ends. Their stacks have grown as far as a call needs; growing that of a new
// goroutine is a tenth of the processor time of a cold lookup.
func (s *share) run(ctx context.Context) {
	const workers = 128
	for range workers {
		go func() {
			for {
				select {
				case work := <-s.work:
					work()
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// call calls the next resolver and stores the result.
func (c *Cache) call(q dns.Question) (r *dns.RRset, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a DNS lookup: please report this", "name", q.Name, "type", q.Type.String(), "panic",
				p)
			r, err = nil, &dns.Error{Question: q, Reason: "internal error"}
		}
	}()
	before := c.epoch()
	r, err = c.next.Lookup(context.Background(), q, dns.Effort{})
	var failure *dns.Error
	switch {
	case err == nil && (r == nil || r.Status != dns.Secure && r.Status != dns.Insecure):
		failure = &dns.Error{Question: q, Reason: "an answer without a security status", Epoch: before}
	case err != nil && !errors.As(err, &failure):
		failure = &dns.Error{Question: q, Reason: text.Printable(err.Error()), Epoch: before, Err: err}
	}
	if failure != nil {
		return c.storeFailure(q, failure)
	}
	return c.store(q, r), nil
}
