package dnscache

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/policyd/policyd/internal/dns"
)

// The limits of the pools. Each is separate, so no untrusted lookup and no refresh ever takes the place of a delivery.
const maxDeliveries, maxUntrusted, maxRefreshes = 8192, 256, 256

// callPool makes the calls of one class of lookups. Concurrent lookups of a question share one call.
type callPool struct {
	cache *Cache
	limit int // the limit of concurrent calls
	do    func(dns.Question) (*dns.RRset, error)
	idle  chan *dns.Call // idle workers read from it

	mu    sync.Mutex
	calls map[dns.Question]*dns.Call
}

func newCallPool(c *Cache, limit int, do func(dns.Question) (*dns.RRset, error)) *callPool {
	return &callPool{cache: c, limit: limit, do: do, idle: make(chan *dns.Call), calls: map[dns.Question]*dns.Call{}}
}

// start joins the call for a question, or starts one. It continues when callers give up: the answer is useful later.
func (p *callPool) start(q dns.Question) *dns.Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	if joined := p.calls[q]; joined != nil {
		return joined
	}
	if len(p.calls) >= p.limit {
		failure := &dns.Error{Question: q, Reason: "too many concurrent lookups"}
		return &dns.Call{Question: q, Done: p.cache.ended, Err: failure}
	}
	call := &dns.Call{Question: q, Done: make(chan struct{})}
	p.calls[q] = call
	select {
	case p.idle <- call:
	default:
		go p.run(call)
	}
	return call
}

// run makes a call and ends it.
func (p *callPool) run(call *dns.Call) {
	q := call.Question
	defer func() {
		if cause := recover(); cause != nil {
			p.cache.options.Logger.Error("panic in a DNS lookup: please report this",
				"name", q.Name, "type", q.Type.String(), "panic", cause)
			call.RRset, call.Err = nil, &dns.Error{Question: q, Reason: "internal error"}
		}
		p.mu.Lock()
		if p.calls[q] == call {
			delete(p.calls, q)
		}
		p.mu.Unlock()
		close(call.Done)
	}()
	call.RRset, call.Err = p.do(q)
}

// forget makes lookups of matching names start calls of their own.
func (p *callPool) forget(match func(name string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.calls, func(q dns.Question, _ *dns.Call) bool { return match(q.Name) })
}

// ask calls the next resolver and stores the result. It asks once more if the servers change during the call.
func (c *Cache) ask(q dns.Question) (*dns.RRset, error) {
	for range 2 {
		before, flushes := c.options.Epoch(), c.shardOf(q).flushes.Load()
		r, err := c.next.Lookup(context.Background(), q, dns.Effort{})
		failure, failed := errors.AsType[*dns.Error](err)
		answered := err == nil && r != nil && (r.Status == dns.Secure || r.Status == dns.Insecure)
		if !failed && !answered {
			failure = &dns.Error{Question: q, Reason: "the resolver returned no valid result", Epoch: before, Err: err}
		}
		kept := c.store(q, r, failure, flushes)
		epoch := c.options.Epoch().Answers
		if kept != nil && kept.Epoch == epoch {
			return kept, nil
		}
		if kept == nil && failure.Epoch.Answers == epoch {
			return nil, failure
		}
	}
	return nil, &dns.Error{Question: q, Reason: "the DNS servers keep changing"}
}
