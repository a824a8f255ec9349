package probe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/smtptls"
)

// Mail every second causes six early probes, and then one in four minutes.
func TestEarlyProbesOfAnOpenHostAreBounded(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8")
		p.Want(mx)
		for range 20 * 60 {
			pass(time.Second)
			p.Want(mx)
		}
		require.LessOrEqual(t, w.count(mx), 1+6+5+1)
		require.GreaterOrEqual(t, w.count(mx), 1+6)
	})
}

// Many concurrent mails use up only one early probe, and the verdict that they got is a second old when it is checked.
func TestABurstOfMailIsOneEarlyProbe(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8")
		p.Want(mx)
		pass(100 * time.Millisecond)
		for range 100 {
			p.Want(mx)
		}
		pass(800 * time.Millisecond)
		require.Equal(t, 1, w.count(mx), "the verdict is not a second old")
		pass(200 * time.Millisecond)
		require.Equal(t, 2, w.count(mx))
		pass(2 * time.Second)
		p.Want(mx)
		pass(time.Millisecond)
		require.Equal(t, 3, w.count(mx), "the next mail causes a probe immediately")
	})
}

// A probe that fails on our side is repeated a few times without mail, and at least every ten minutes with it.
func TestFailedProbeIsRepeated(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, unreachable, "8.8.8.8")
		p.Want(mx)
		pass(3 * time.Hour)
		require.Equal(t, 6, w.count(mx), "immediately, and after 30 s, 1, 2, 4 and 8 minutes")
		for range 3 * 60 {
			p.Want(mx)
			pass(time.Minute)
		}
		require.GreaterOrEqual(t, w.count(mx), 6+17)
		require.LessOrEqual(t, w.count(mx), 6+19)
	})
}

// A host with a valid open verdict, on which mail depends, is probed again after four minutes at the latest.
func TestFailedProbeOfAnOpenHostIsRepeatedSoon(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8")
		p.Want(mx)
		pass(time.Second)
		w.host(mx, unreachable, "8.8.8.8")
		mail := func(minutes int) {
			for range minutes {
				p.Want(mx)
				pass(time.Minute)
			}
		}
		mail(40)
		before := w.count(mx)
		mail(40)
		require.Equal(t, Open, p.Verdict(mx).State)
		require.GreaterOrEqual(t, w.count(mx)-before, 8)
	})
}

// The back-off of failed probes does not delay the probe of a host whose open verdict has expired, nor does a back-off
// from before the clock was set back.
func TestBackOffOfFailedProbesDoesNotHold(t *testing.T) {
	t.Parallel()
	now := wallClock()
	for name, c := range map[string]struct {
		verdict Verdict
		retry   time.Duration
		due     time.Duration
	}{
		"unknown":               {Verdict{}, maxFailedBackOff, maxFailedBackOff},
		"unknown, clock back":   {Verdict{}, maxFailedBackOff + time.Second, 0},
		"an expired verdict":    {Verdict{State: Open, Checked: now.Add(-3 * time.Hour), Expires: now.Add(-time.Hour)}, time.Minute, 0},
		"a verdict just ended":  {Verdict{State: Closed, Checked: now.Add(-3 * time.Hour), Expires: now}, time.Minute, 0},
		"open":                  {Verdict{State: Open, Checked: now, Expires: now.Add(time.Hour)}, time.Minute, time.Minute},
		"open, clock back":      {Verdict{State: Open, Checked: now, Expires: now.Add(time.Hour)}, maxFailedBackOff + time.Second, minVerdictAge},
		"a closed one in force": {Verdict{State: Closed, Checked: now, Expires: now.Add(time.Hour)}, time.Minute, time.Minute},
	} {
		h := &host{name: mx, verdict: c.verdict, retry: now.Add(c.retry)}
		require.Equal(t, c.due, h.wait(now), name)
	}
}

// An allowance that was used up before the clock was set back does not delay a probe by more than four minutes.
func TestUsedUpAllowanceDoesNotHold(t *testing.T) {
	t.Parallel()
	now := wallClock()
	h := &host{allowanceFull: now.Add(time.Hour), verdict: Verdict{State: Open, Checked: now.Add(-time.Minute), Expires: now.Add(time.Hour)}}
	require.Equal(t, probeInterval-time.Minute, h.wait(now))
	require.LessOrEqual(t, h.wait(now.Add(probeInterval)), time.Duration(0))
}

// A host that the rates put off is not tried before its network has room, and after those that have not had a turn.
func TestHostThatIsPutOffComesLater(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	now := wallClock()
	first, putOff := p.wantedHost(mx, now), p.wantedHost(mxn(1), now)
	p.settle(putOff, finding{retryAfter: 5 * time.Minute}, now)
	require.Equal(t, now.Add(5*time.Minute), putOff.retry)
	require.True(t, putOff.wanted)
	require.Equal(t, 5*time.Minute, putOff.wait(now))
	first.wanted = true
	later := putOff.retry
	putOff.asked = later
	for _, want := range []string{mx, mxn(1)} {
		h, _ := p.next(later)
		require.Equal(t, want, h.name)
	}
}

// A new cause for a closed host counts as a change; a repeated verdict or a failed probe does not.
func TestAnotherCauseIsAChange(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	var changes []int // so far
	for _, answer := range []func(*smtptls.Transcript){refusing, refusing, plain, unreachable} {
		w.host(mx, answer, "8.8.8.8")
		p.Probe(t.Context(), mx)
		changes = append(changes, w.log.Count("changed=true"))
	}
	require.Equal(t, []int{1, 1, 2, 2}, changes)
}

// The verdict of a probe does not reflect mail that was sent while the probe ran, so another probe follows.
func TestMailDuringAProbeCausesAnother(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8")
		p.Want(mx)
		pass(time.Minute)
		w.mu.Lock()
		w.takes = 10 * time.Second
		w.mu.Unlock()
		p.Want(mx)
		pass(5 * time.Second)
		require.Equal(t, 2, w.count(mx))
		p.Want(mx)
		pass(20 * time.Second)
		require.Equal(t, 3, w.count(mx))
		pass(time.Hour)
		require.Equal(t, 3, w.count(mx), "and no more without mail")
	})
}

// Where there are too many hosts, the one that was not wanted for longest is forgotten.
func TestHostWantedAgainIsNotForgottenFirst(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	for i := range maxHosts {
		p.Want(mxn(i))
	}
	p.Want(mxn(0))
	p.Want(mx)
	require.Contains(t, p.hosts.Records, mxn(0))
	require.NotContains(t, p.hosts.Records, mxn(1))
}

// Open hosts do not leave so little room that a new host is forgotten before it is probed.
func TestOpenHostsLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	now := wallClock()
	for i := range maxHosts {
		h := p.wantedHost(mxn(i), now.Add(time.Duration(i)))
		if i >= maxEvicted/2 {
			p.settle(h, finding{Verdict: Verdict{State: Open, Expires: now.Add(time.Hour)}}, now)
		}
	}
	p.Want(mx)
	require.Contains(t, p.hosts.Records, mx)
	require.Len(t, p.hosts.Records, maxHosts-maxEvicted+1, "the next ones have room too")
	require.NotContains(t, p.hosts.Records, mxn(maxEvicted/2-1), "those that are not open go first")
	require.NotContains(t, p.hosts.Records, mxn(maxEvicted-1), "then the open ones that were not wanted for longest")
	require.Contains(t, p.hosts.Records, mxn(maxEvicted))
}

// A host that is due later than the prober looks again does not wake it; one that is due now does.
func TestOnlyAHostThatIsDueSoonWakesTheProber(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	w.host(mx, refusing, "8.8.8.8")
	require.Equal(t, Closed, p.Probe(t.Context(), mx).State)
	h, wait := p.next(wallClock())
	require.Nil(t, h)
	require.Equal(t, sweepInterval, wait)
	p.Want(mx)
	require.Empty(t, p.wakeUp)
	p.Want(mxn(1))
	require.Len(t, p.wakeUp, 1)
}
