package probe

import (
	"container/heap"
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/smtptls"
)

// The life of a verdict; the package comment has the reasons.
const (
	usedEvery     = 4 * time.Minute
	earlyMost     = 6
	earlyAge      = time.Second
	closedFirst   = 10 * time.Minute
	closedLast    = 6 * time.Hour
	unknownFirst  = 30 * time.Second
	unknownLast   = 10 * time.Minute
	forgottenAge  = 24 * time.Hour
	sweepInterval = time.Minute // how long a jump of the clock may go unnoticed
)

// plan schedules the next probe of a host that is being asked for; p.mu is held.
func (p *Prober) plan(h *host, now time.Time) {
	if h.waiting != nil {
		p.queues[h.kind()].MoveToBack(h.waiting)
		return
	}
	if h.flight != nil {
		return
	}
	at := now
	switch h.valid(now).State {
	case Open:
		if !h.due.IsZero() {
			return
		}
		at = now.Add(min(h.early.ReserveN(now, 1).DelayFrom(now), usedEvery))
		if soonest := h.verdict.Checked.Add(earlyAge); at.Before(soonest) {
			at = soonest
		}
	case Closed:
		at = h.retry
	case Unknown:
		// An expired verdict does not delay the next probe, and neither does a time that the clock was set back over.
		if h.retry.After(now) && h.retry.Sub(now) <= unknownLast && h.verdict.State == Unknown {
			at = h.retry
		}
	}
	if at.Before(now) {
		at = now
	}
	p.scheduleAt(h, at)
}

// scheduleAt puts a host into the schedule, or earlier; p.mu is held.
func (p *Prober) scheduleAt(h *host, at time.Time) {
	switch {
	case h.index < 0:
		h.due = at
		heap.Push(&p.due, h)
	case at.Before(h.due):
		h.due = at
		heap.Fix(&p.due, h.index)
	default:
		return
	}
	if h.index == 0 {
		signal(p.wake)
	}
}

func (p *Prober) unschedule(h *host) {
	if h.index >= 0 {
		heap.Remove(&p.due, h.index)
	}
	h.due = time.Time{}
}

// enqueue makes a host wait for a worker; p.mu is held. Where too many wait, the one at the front is dropped until
// the next mail wants it again.
func (p *Prober) enqueue(h *host) {
	p.unschedule(h)
	queue := p.queues[h.kind()]
	if queue.Len() >= maxQueue {
		if oldest, ok := queue.Front().Value.(*host); ok {
			p.unqueue(oldest)
		}
	}
	if h.failedFor > 0 {
		h.waiting = queue.PushFront(h) // it was put off: those that have not had a turn come first
	} else {
		h.waiting = queue.PushBack(h)
	}
	signal(p.ready)
}

func (p *Prober) unqueue(h *host) {
	if h.waiting != nil {
		p.queues[h.kind()].Remove(h.waiting)
		h.waiting = nil
	}
}

// take returns the host to probe next, with its probe begun, or nil. Hosts that were open come first; within a queue
// the host that was wanted last, so that a flood of others does not delay it.
func (p *Prober) take() *host {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, queue := range p.queues {
		if last := queue.Back(); last != nil {
			h, _ := last.Value.(*host)
			p.begin(h)
			if p.waiting() > 0 {
				signal(p.ready)
			}
			return h
		}
	}
	return nil
}

// begin marks a host as being probed; p.mu is held.
func (p *Prober) begin(h *host) {
	p.unschedule(h)
	p.unqueue(h)
	h.used = false
	h.flight = &flight{done: make(chan struct{})}
}

// dispatch moves hosts that are due to the queues, and forgets those that were not wanted for a day, until ctx ends.
func (p *Prober) dispatch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(p.sweep(wallClock()))
	}
}

// sweep does what is due and returns how long nothing is.
func (p *Prober) sweep(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.due) > 0 && !p.due[0].due.After(now) {
		p.enqueue(p.due[0])
	}
	for _, all := range p.known {
		for last := all.Back(); last != nil; last = all.Back() {
			h, _ := last.Value.(*host)
			if now.Sub(h.asked) < forgottenAge || h.flight != nil {
				break
			}
			p.forget(h)
		}
	}
	if len(p.due) == 0 {
		return sweepInterval
	}
	return min(p.due[0].due.Sub(now), sweepInterval)
}

// settle takes over what a probe has found about a host that is still known; p.mu is held. It reports whether the state
// or its cause has changed.
func (p *Prober) settle(h *host, f finding, now time.Time) (v Verdict, changed bool) {
	before, kind := h.verdict, h.kind()
	v = f.verdict.dated(now)
	if v.State == Open && !now.Before(v.Expires) {
		// The certificate has expired since the handshake.
		v = closed(smtptls.CertificateExpired, "the certificate has just expired").verdict.dated(now)
	}
	switch v.State {
	case Open:
		if before.State != Open || h.early == nil {
			h.early = rate.NewLimiter(rate.Every(usedEvery), earlyMost)
		}
		h.verdict, h.closedFor, h.failedFor, h.retry = v, 0, 0, time.Time{}
	case Closed:
		h.closedFor = min(max(2*h.closedFor, closedFirst), closedLast)
		h.verdict, h.failedFor, h.early, h.retry = v, 0, nil, now.Add(h.closedFor)
	case Unknown:
		// The previous verdict is valid until it expires. A few more tries follow in any case.
		h.failedFor = min(max(2*h.failedFor, unknownFirst, f.late), unknownLast)
		h.retry = now.Add(h.failedFor)
		if before.State == Unknown {
			h.verdict.Why = v.Why
		}
		if h.failedFor < unknownLast {
			p.scheduleAt(h, h.retry)
		}
	}
	changed = v.State != Unknown && (before.State != v.State || before.Cause != v.Cause)
	if h.kind() != kind {
		p.known[kind].Remove(h.place)
		h.place = p.known[h.kind()].PushFront(h)
	}
	p.disk.Mark(h.name)
	return v, changed
}

// schedule is a heap of hosts, the one that is due first on top.
type schedule []*host

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	if h, ok := x.(*host); ok {
		h.index = len(*s)
		*s = append(*s, h)
	}
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	h := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	h.index = -1
	return h
}
