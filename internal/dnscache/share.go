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
	idle  []chan *call // workers, the last one that has worked at the end
	keep  int          // how many of them stay
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
	if last := len(s.idle) - 1; last >= 0 {
		s.idle[last] <- p
		s.idle = s.idle[:last]
	} else {
		go s.work(p)
	}
	return &p.Call
}

// work makes a call, and then others if the worker stays.
func (s *share) work(p *call) {
	next := make(chan *call, 1)
	for p != nil {
		p.run()
		s.mu.Lock()
		delete(s.calls, p.Question)
		if len(s.idle) < s.keep {
			s.idle = append(s.idle, next)
		} else {
			close(next)
		}
		s.mu.Unlock()
		close(p.Done)
		p = <-next
	}
}

// keepWorkers changes how many workers stay when there is no call. Their stacks have grown as far as a call needs;
// growing that of a new goroutine is a tenth of the processor time of a cold lookup.
func (s *share) keepWorkers(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = n
	for len(s.idle) > n {
		close(s.idle[0])
		s.idle = s.idle[1:]
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
		if latest, _ := c.shard(q).get(q); latest == nil || *latest != *p.old {
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
