package probe

import (
	"cmp"
	"time"
)

// When a host is probed; docs/decisions/0003-port-26-verdicts.md has the reasons.
const (
	// An open host has an allowance of maxEarlyProbes probes, which grows back by one every probeInterval. A use of the
	// host is followed by a probe as soon as the last one is minVerdictAge old and the allowance permits, and at the
	// latest when it is probeInterval old.
	maxEarlyProbes = 6
	probeInterval  = 4 * time.Minute
	minVerdictAge  = time.Second
	// The back-off of a closed host, which doubles with each probe.
	minClosedBackOff = 10 * time.Minute
	maxClosedBackOff = 6 * time.Hour
	// The back-off after a probe that failed on our side, which doubles too. An open host has probeInterval at most.
	minFailedBackOff = 30 * time.Second
	maxFailedBackOff = 10 * time.Minute

	forgottenAfter = 24 * time.Hour // a host that was not wanted for this long is forgotten
	sweepInterval  = time.Minute    // how long a jump of the clock may go unnoticed
)

// before reports whether a host that is due is probed before another: those that were open first, then those that have
// not failed or been put off; among equals the one wanted last, so that a flood of others does not delay it.
func (h *host) before(other *host) bool {
	return cmp.Or(openFirst(h, other), cmp.Compare(h.failedBackOff, other.failedBackOff),
		other.asked.Compare(h.asked)) < 0
}

// begin marks a host as being probed; p.hosts is locked. A probe of an open host takes one from its allowance.
func (h *host) begin(now time.Time) {
	if h.valid(now).State == Open {
		if h.allowanceFull.Before(now) {
			h.allowanceFull = now
		}
		h.allowanceFull = h.allowanceFull.Add(probeInterval)
	}
	h.wanted, h.probing = false, true
}

// wait returns how long to wait before a wanted host may be probed. It is due if that is zero or less.
func (h *host) wait(now time.Time) time.Duration {
	state, retry := h.valid(now).State, h.retry.Sub(now)
	if state == Closed {
		return retry
	}
	clockSetBack, expired := retry > maxFailedBackOff, state != h.verdict.State
	if clockSetBack || expired {
		retry = 0 // a back-off from before does not delay the probe
	}
	if state == Unknown {
		return retry
	}
	age := now.Sub(h.verdict.Checked)
	allowed := h.allowanceFull.Add(-(maxEarlyProbes - 1) * probeInterval).Sub(now) // too long if the clock was set back
	return max(retry, minVerdictAge-age, min(allowed, probeInterval-age))
}

// notify wakes Run for a wanted host that is due before Run would look by itself; p.hosts is locked.
func (p *Prober) notify(h *host, now time.Time) {
	if h.wait(now) >= sweepInterval {
		return
	}
	select {
	case p.wakeUp <- struct{}{}:
	default: // there is a token
	}
}

// settle stores what a probe has found about a host that is still known; p.hosts is locked. It reports whether the
// state or its cause has changed.
func (p *Prober) settle(h *host, f finding, now time.Time) (changed bool) {
	before := h.verdict
	switch f.State {
	case Open:
		h.verdict = f.Verdict
		h.closedBackOff, h.failedBackOff, h.retry = 0, 0, time.Time{}
	case Closed:
		h.verdict = f.Verdict
		h.closedBackOff = min(max(2*h.closedBackOff, minClosedBackOff), maxClosedBackOff)
		h.failedBackOff, h.allowanceFull, h.retry = 0, time.Time{}, now.Add(h.closedBackOff)
	case Unknown:
		// The previous verdict is valid until it expires. A few more tries follow in any case.
		h.failedBackOff = min(max(2*h.failedBackOff, minFailedBackOff, f.retryAfter), maxFailedBackOff)
		h.retry = now.Add(h.failedBackOff)
		if h.valid(now).State == Open {
			h.retry = now.Add(min(h.failedBackOff, probeInterval)) // mail depends on the verdict
		}
		if before.State == Unknown {
			h.verdict.Why = f.Why
		}
		h.wanted = h.wanted || h.failedBackOff < maxFailedBackOff
	}
	p.hosts.Mark(h.name)
	return f.State != Unknown && (before.State != f.State || before.Cause != f.Cause)
}
