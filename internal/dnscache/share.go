package dnscache

import (
	"context"
	"errors"
	"strconv"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

const (
	// Calls that run and calls that wait, for deliveries, for names that remote parties chose, and to refresh. The
	// shares are separate: neither of the others ever takes the place of a delivery.
	maxCalls, maxWaiting                   = 4096, 16384
	maxUntrustedCalls, maxUntrustedWaiting = 256, 1024
	maxRefreshes, maxWaitingRefreshes      = 16, 1024
)

// errAbandoned is returned by a shared call that had to wait until the caller who started it was gone.
var errAbandoned = errors.New("dnscache: abandoned")

// share is what one class of lookups may use of the next resolver. Concurrent lookups of a question share one call.
type share struct {
	calls   singleflight.Group
	all     *semaphore.Weighted // calls that run or wait
	running *semaphore.Weighted
}

func newShare(running, waiting int64) *share {
	return &share{all: semaphore.NewWeighted(running + waiting), running: semaphore.NewWeighted(running)}
}

// ask calls the next resolver in the background, or joins a call for the same question.
func (c *Cache) ask(ctx context.Context, s *share, q dns.Question) <-chan singleflight.Result {
	return s.calls.DoChan(q.Name+" "+strconv.Itoa(int(q.Type)), func() (any, error) { return c.call(ctx, s, q) })
}

// call calls the next resolver and stores the result. While it waits for its turn it ends with ctx; afterwards it
// continues without the caller that started it, because others may have joined and the answer is useful later.
func (c *Cache) call(ctx context.Context, s *share, q dns.Question) (r *dns.RRset, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a DNS lookup: please report this", "name", q.Name, "type", q.Type.String(), "panic",
				p)
			r, err = nil, &dns.Error{Question: q, Reason: "internal error"}
		}
	}()
	if !s.all.TryAcquire(1) {
		return nil, &dns.Error{Question: q, Reason: "too many concurrent lookups"}
	}
	defer s.all.Release(1)
	if s.running.Acquire(ctx, 1) != nil {
		return nil, errAbandoned
	}
	defer s.running.Release(1)
	if s == c.ahead {
		defer c.stats.refreshed.Add(1)
	}
	if ctx.Err() != nil {
		return nil, errAbandoned
	}
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
