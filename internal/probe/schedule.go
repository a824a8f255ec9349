package probe

import (
	"cmp"
	"time"

	"golang.org/x/time/rate"
)

// The life of a verdict; docs/decisions/0003-port-26-verdicts.md has the reasons.
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

// before reports whether a host that is due is probed before another: those that were open first, then those that have
// not failed or been put off; of equals the one that was wanted last, so that a flood of others does not delay it.
func (h *host) before(other *host) bool {
	return cmp.Or(cmp.Compare(other.open(), h.open()), cmp.Compare(h.failedFor, other.failedFor),
		other.asked.Compare(h.asked)) < 0
}

// begin marks a host as being probed; the lock of the Prober is held.
func (h *host) begin() { h.due, h.used, h.probing = time.Time{}, false, true }

// plan schedules the next probe of a host that is being asked for; p.hosts is locked.
func (p *Prober) plan(h *host, now time.Time) {
	at := now
	switch h.valid(now).State {
	case Open:
		if !h.due.IsZero() || h.probing {
			return
		}
		if h.early == nil {
			h.early = rate.NewLimiter(rate.Every(usedEvery), earlyMost)
		}
		at = now.Add(min(h.early.ReserveN(now, 1).DelayFrom(now), usedEvery))
		if soonest := h.verdict.Checked.Add(earlyAge); at.Before(soonest) {
			at = soonest
		}
	case Closed:
		at = h.retry
	case Unknown:
		// An expired verdict does not delay the next probe, and neither does a time that the clock was set back over.
		if h.retry.Sub(now) <= unknownLast && h.verdict.State == Unknown {
			at = h.retry
		}
	}
	if at.Before(now) {
		at = now
	}
	p.schedule(h, at)
}

// schedule makes a host due at a time, unless it is being probed or due before that; p.hosts is locked.
func (p *Prober) schedule(h *host, at time.Time) {
	if h.probing || !h.due.IsZero() && !at.Before(h.due) {
		return
	}
	h.due = at
	if !at.Before(p.asleep) {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // there is a token
	}
}

// settle takes over what a probe has found about a host that is still known; p.hosts is locked. It reports whether the
// state or its cause has changed.
func (p *Prober) settle(h *host, f finding, now time.Time) (changed bool) {
	before := h.verdict
	switch f.State {
	case Open:
		h.verdict, h.closedFor, h.failedFor, h.retry = f.Verdict, 0, 0, time.Time{}
	case Closed:
		h.closedFor = min(max(2*h.closedFor, closedFirst), closedLast)
		h.verdict, h.failedFor, h.early, h.retry = f.Verdict, 0, nil, now.Add(h.closedFor)
	case Unknown:
		// The previous verdict is valid until it expires. A few more tries follow in any case.
		h.failedFor = min(max(2*h.failedFor, unknownFirst, f.late), unknownLast)
		h.retry = now.Add(h.failedFor)
		if before.State == Unknown {
			h.verdict.Why = f.Why
		}
		if h.failedFor < unknownLast {
			p.schedule(h, h.retry)
		}
	}
	p.hosts.Mark(h.name)
	return f.State != Unknown && (before.State != f.State || before.Cause != f.Cause)
}
