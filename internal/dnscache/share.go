package dnscache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

// How many calls run for deliveries, for names that remote parties chose, and to refresh. The shares are separate:
// neither of the others ever takes the place of a delivery.
const maxCalls, maxUntrusted, maxRefreshes = 8192, 256, 256

// share is what one class of lookups may use of the next resolver. Concurrent lookups of a question share one call.
type share struct {
	cache *Cache
	most  int
	idle  chan *dns.Call // idle workers read from it

	mu    sync.Mutex
	calls map[dns.Question]*dns.Call
}

func newShare(c *Cache, most int) *share {
	return &share{cache: c, most: most, idle: make(chan *dns.Call), calls: map[dns.Question]*dns.Call{}}
}

// start makes a call in the background, or joins one for the same question. It continues when the callers give up,
// because the answer is useful later.
func (s *share) start(q dns.Question) *dns.Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if joined := s.calls[q]; joined != nil {
		return joined
	}
	if len(s.calls) >= s.most {
		failure := &dns.Error{Question: q, Reason: "too many concurrent lookups"}
		return &dns.Call{Question: q, Done: s.cache.ended, Err: failure}
	}
	call := &dns.Call{Question: q, Done: make(chan struct{})}
	s.calls[q] = call
	select {
	case s.idle <- call:
	default:
		go s.do(call)
	}
	return call
}

// do makes a call and ends it. Nothing uses the result of a refresh, which asks only if no other has just ended.
func (s *share) do(call *dns.Call) {
	c, q := s.cache, call.Question
	if s != c.ahead {
		call.RRset, call.Err = c.ask(q)
	} else if e, _ := c.shard(q).get(q); e.due(time.Now()) {
		c.stats.refreshed.Add(1)
		_, _ = c.ask(q)
	}
	s.mu.Lock()
	delete(s.calls, q)
	s.mu.Unlock()
	close(call.Done)
}

// work makes calls until ctx ends. Its stack keeps the size that a call needs: growing the stack of a new goroutine
// takes a tenth of the processor time of a cold lookup.
func (s *share) work(ctx context.Context) {
	for {
		select {
		case call := <-s.idle:
			s.do(call)
		case <-ctx.Done():
			return
		}
	}
}

// ask calls the next resolver and stores the result. If the servers change during the call, its result no longer
// counts, so it asks again.
func (c *Cache) ask(q dns.Question) (*dns.RRset, error) {
	for range 2 {
		r, failure := c.askOnce(q)
		switch now := c.epoch().Answers; {
		case failure == nil && r.Epoch == now:
			return r, nil
		case failure != nil && failure.Epoch.Answers == now:
			return nil, failure
		}
	}
	return nil, &dns.Error{Question: q, Reason: "the DNS servers keep changing"}
}

func (c *Cache) askOnce(q dns.Question) (r *dns.RRset, failure *dns.Error) {
	before := c.epoch()
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a DNS lookup: please report this", "name", q.Name, "type", q.Type.String(), "panic",
				p)
			r, failure = nil, &dns.Error{Question: q, Reason: "internal error", Epoch: before}
		}
	}()
	r, err := c.next.Lookup(context.Background(), q, dns.Effort{})
	if err == nil && (r == nil || r.Status != dns.Secure && r.Status != dns.Insecure) {
		err = errors.New("an answer without a security status")
	}
	if err == nil {
		return c.store(q, r), nil
	}
	failure, ok := errors.AsType[*dns.Error](err)
	if !ok {
		failure = &dns.Error{Question: q, Reason: text.Printable(err.Error()), Epoch: before, Err: err}
	}
	return c.storeFailure(q, failure)
}
