package dnscache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
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
	defer func() {
		if p := recover(); p != nil {
			c.options.Logger.Error("panic in a DNS lookup: please report this",
				"name", q.Name, "type", q.Type.String(), "panic", p)
			call.RRset, call.Err = nil, &dns.Error{Question: q, Reason: "internal error"}
		}
		s.mu.Lock()
		delete(s.calls, q)
		s.mu.Unlock()
		close(call.Done)
	}()
	if s == c.ahead {
		if e, _ := c.shard(q).get(q, c.options.Epoch()); !e.due(time.Now()) {
			return
		}
		c.stats.refreshed.Add(1)
	}
	call.RRset, call.Err = c.ask(q)
}

// ask calls the next resolver and stores the result. If the servers change during the call, its result no longer
// counts, so it asks again.
func (c *Cache) ask(q dns.Question) (*dns.RRset, error) {
	for range 2 {
		before := c.options.Epoch()
		r, err := c.next.Lookup(context.Background(), q, dns.Effort{})
		failure, ok := errors.AsType[*dns.Error](err)
		if !ok && (err != nil || r == nil || r.Status != dns.Secure && r.Status != dns.Insecure) {
			failure = &dns.Error{Question: q, Reason: "the resolver returned no valid result", Epoch: before, Err: err}
		}
		r, epoch, err := c.store(q, r, failure)
		if epoch == c.options.Epoch().Answers {
			return r, err
		}
	}
	return nil, &dns.Error{Question: q, Reason: "the DNS servers keep changing"}
}
