package probe

import (
	"cmp"
	"time"
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

// begin marks a host as being probed; p.hosts is locked. A probe of an open host takes one from its allowance.
func (h *host) begin(now time.Time) {
	if h.valid(now).State == Open {
		if h.rested.Before(now) {
			h.rested = now
		}
		h.rested = h.rested.Add(usedEvery)
	}
	h.wanted, h.probing = false, true
}

// wait returns how long a wanted host must still not be probed.
func (h *host) wait(now time.Time) time.Duration {
	state, retry, age := h.valid(now).State, h.retry.Sub(now), now.Sub(h.verdict.Checked)
	switch {
	case state == Closed:
		return retry
	case retry > unknownLast, state != h.verdict.State:
		retry = 0 // the clock was set back, or the verdict has expired: a back-off from before does not delay the probe
	}
	if state == Open {
		allowed := h.rested.Add(-(earlyMost - 1) * usedEvery).Sub(now)
		return max(retry, earlyAge-age, min(allowed, usedEvery-age)) // allowed is longer if the clock was set back
	}
	return retry
}

// notify wakes Run for a wanted host that is due before Run would look by itself; p.hosts is locked.
func (p *Prober) notify(h *host, now time.Time) {
	if h.wait(now) >= sweepInterval {
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
		h.verdict, h.failedFor, h.rested, h.retry = f.Verdict, 0, time.Time{}, now.Add(h.closedFor)
	case Unknown:
		// The previous verdict is valid until it expires. A few more tries follow in any case.
		h.failedFor = min(max(2*h.failedFor, unknownFirst, f.late), unknownLast)
		h.retry = now.Add(h.failedFor)
		if h.valid(now).State == Open {
			h.retry = now.Add(min(h.failedFor, usedEvery)) // mail depends on the verdict
		}
		if before.State == Unknown {
			h.verdict.Why = f.Why
		}
		h.wanted = h.wanted || h.failedFor < unknownLast
	}
	p.hosts.Mark(h.name)
	return f.State != Unknown && (before.State != f.State || before.Cause != f.Cause)
}
