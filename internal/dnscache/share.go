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

	mu    sync.Mutex
	calls map[dns.Question]*call
	idle  chan *call // idle workers read from it; nil if there are no workers
}

// call is a call of the next resolver.
type call struct {
	dns.Call
	cache *Cache
	old   *entry // for a refresh
}

func newShare(most int) *share {
	return &share{most: most, calls: map[dns.Question]*call{}}
}

// start makes a call in the background, or joins one for the same question. It continues when the callers give up,
// because the answer is useful later. For a refresh, old is what it replaces.
func (s *share) start(c *Cache, q dns.Question, old *entry) *dns.Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if joined := s.calls[q]; joined != nil {
		return &joined.Call
	}
	p := &call{cache: c, old: old, Call: dns.Call{Question: q, Done: make(chan struct{})}}
	if len(s.calls) >= s.most {
		p.Err = &dns.Error{Question: q, Reason: "too many concurrent lookups"}
		close(p.Done)
		return &p.Call
	}
	s.calls[q] = p
	select {
	case s.idle <- p:
	default:
		go s.do(p)
	}
	return &p.Call
}

// do makes a call and ends it.
func (s *share) do(p *call) {
	p.run()
	s.mu.Lock()
	delete(s.calls, p.Question)
	s.mu.Unlock()
	close(p.Done)
}

// startWorkers starts workers, which wait for calls until end is called. Their stacks keep the size that a call needs.
// Growing the stack of a new goroutine takes a tenth of the processor time of a cold lookup.
func (s *share) startWorkers(n int) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := make(chan *call)
	s.idle = idle
	for range n {
		go func() {
			for p := range idle {
				s.do(p)
			}
		}()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(idle)
		s.idle = nil
	}
}

// run makes the call. If the servers change during the call, its answer no longer counts, so it asks again.
func (p *call) run() {
	for range 2 {
		p.RRset, p.Err = p.ask()
		if p.Err != nil || p.RRset.Epoch == p.cache.epoch().Answers {
			return
		}
	}
	p.RRset, p.Err = nil, &dns.Error{Question: p.Question, Reason: "the DNS servers keep changing"}
}

// ask calls the next resolver and stores the result.
func (p *call) ask() (r *dns.RRset, err error) {
	c, q := p.cache, p.Question
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a DNS lookup: please report this", "name", q.Name, "type", q.Type.String(), "panic",
				p)
			r, err = nil, &dns.Error{Question: q, Reason: "internal error"}
		}
	}()
	if p.old != nil {
		if latest, _ := c.shard(q).get(q); latest != *p.old {
			return nil, dns.ErrNotCached // another refresh has just ended
		}
		defer c.stats.refreshed.Add(1)
	}
	before := c.epoch()
	r, err = c.next.Lookup(context.Background(), q, dns.Effort{})
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
