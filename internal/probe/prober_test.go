package probe

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/smtptls"
)

func TestWantCausesAProbeAndNeverWaits(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.takes = 5 * time.Second
		w.host(mx, good, "8.8.8.8", "2600::1")
		began := time.Now()
		for range 1000 {
			require.Equal(t, Unknown, ask(p, "SMTPS-A.Example.COM.").State)
		}
		require.Equal(t, began, time.Now())
		pass(6 * time.Second)
		require.Equal(t, 2, w.count(mx), "one probe of both addresses for all requests")
		v := ask(p, mx)
		require.Equal(t, Open, v.State, v.Why)
		require.Equal(t, v.Checked.Add(2*time.Hour), v.Expires)
		require.Equal(t, "2 of 2 addresses: implicit TLS with a valid certificate", v.Why)
		require.Contains(t, w.log.String(), "mx="+mx)
	})
}

func TestAHostWithoutAPromiseIsNotProbed(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		for _, name := range []string{"", ".", "mx.example.com", "starttls-a.example.com", "smtps.example.com", "smtps-.example.com", "smtps-a b.example.com", `smtps-a\046b.example.com`, "smtps-a..com", "192.0.2.1", "smtps-ä.example.com"} {
			require.Equal(t, Verdict{}, ask(p, name), name)
			require.Equal(t, Unknown, p.Probe(t.Context(), name).State, name)
		}
		pass(time.Minute)
		require.Zero(t, known(p))
		require.Zero(t, w.hosts())
	})
}

func TestOpenHostIsProbedAfterUse(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8")
		ask(p, mx)
		pass(time.Second)
		require.Equal(t, 1, w.count(mx))

		pass(3 * time.Hour)
		require.Equal(t, 1, w.count(mx), "it has not been wanted since")
		require.Equal(t, Unknown, ask(p, mx).State, "and a verdict of three hours ago is not used")
		pass(time.Second)
		require.Equal(t, 2, w.count(mx))

		for range 24 * 60 {
			require.Equal(t, Open, ask(p, mx).State, "it stays open while it is in use")
			pass(time.Minute)
		}
		n := w.count(mx)
		require.LessOrEqual(t, n, 2+maxEarlyProbes+24*15)
		require.GreaterOrEqual(t, n, 24, "and is probed every hour at least")
	})
}

func TestHostThatClosesBetweenTwoMails(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]struct{ mails, apart time.Duration }{
		"the second mail":                  {1, time.Minute},
		"the third, soon after the second": {2, 2 * time.Second},
		"after a mail an hour all day":     {24, time.Hour},
		"after a mail a minute all day":    {24 * 60, time.Minute},
		"after a mail a second for a time": {3600, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *network, p *Prober) {
				w.host(mx, good, "8.8.8.8")
				ask(p, mx)
				pass(time.Second)
				for range before.mails {
					ask(p, mx)
					pass(before.apart)
				}
				w.host(mx, refusing, "8.8.8.8")
				ask(p, mx) // this mail may go to port 26, and is deferred
				pass(300 * time.Second)
				require.Equal(t, Closed, ask(p, mx).State, "the first retry goes by port 25")
			})
		})
	}
	t.Run("an immediate retry", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			w.host(mx, good, "8.8.8.8")
			ask(p, mx)
			pass(2 * time.Second)
			require.Equal(t, Open, ask(p, mx).State)
			pass(2 * time.Second)
			w.host(mx, refusing, "8.8.8.8")
			require.Equal(t, Open, ask(p, mx).State)
			pass(time.Second)
			require.Equal(t, Closed, ask(p, mx).State)
		})
	})
}

func TestClosedHostBacksOff(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, plain, "8.8.8.8")
		ask(p, mx)
		pass(time.Second)
		require.Equal(t, smtptls.Plaintext, ask(p, mx).Cause)
		for range 3 * 24 * 60 {
			require.Equal(t, Closed, ask(p, mx).State)
			pass(time.Minute)
		}
		waits := w.waits(mx)
		require.Equal(t, []time.Duration{
			10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 160 * time.Minute, 320 * time.Minute, 6 * time.Hour,
		}, waits[:7])
		for _, wait := range waits[7:] {
			require.Equal(t, 6*time.Hour, wait)
		}
		w.host(mx, good, "8.8.8.8")
		pass(6 * time.Hour)
		ask(p, mx)
		pass(time.Minute)
		require.Equal(t, Open, ask(p, mx).State)
		w.host(mx, plain, "8.8.8.8")
		pass(10 * time.Second)
		require.Equal(t, Closed, ask(p, mx).State)
		n := w.count(mx)
		pass(11 * time.Minute)
		ask(p, mx)
		pass(time.Second)
		require.Equal(t, n+1, w.count(mx), "the back-off starts again")
	})
}

func TestClosedHostThatIsNotWantedIsLeftAlone(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, plain, "8.8.8.8")
		ask(p, mx)
		pass(20 * time.Hour)
		require.Equal(t, 1, w.count(mx))
		require.Equal(t, 1, known(p))
		pass(5 * time.Hour)
		require.Zero(t, known(p), "and forgotten after a day")
	})
}

func TestCertificateBoundsAnOpenVerdict(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		end := time.Now().Add(30 * time.Minute)
		w.host(mx, goodUntil(end), "8.8.8.8")
		ask(p, mx)
		pass(time.Second)
		v := ask(p, mx)
		require.Equal(t, Open, v.State)
		require.True(t, v.Expires.Equal(end))
		w.mu.Lock()
		w.broken = true // no re-check succeeds
		w.mu.Unlock()
		pass(29 * time.Minute)
		require.Equal(t, Open, ask(p, mx).State, "a probe that fails on our side changes nothing")
		pass(time.Minute)
		require.Equal(t, Unknown, ask(p, mx).State)
	})
}

func TestFailedAddressLookupIsNotAVerdict(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.broken = true
		w.host(mx, good, "8.8.8.8")
		ask(p, mx)
		pass(time.Second)
		v := ask(p, mx)
		require.Equal(t, Unknown, v.State)
		require.Equal(t, "the addresses could not be looked up: SERVFAIL", v.Why)
		w.mu.Lock()
		w.broken = false
		w.mu.Unlock()
		pass(20 * time.Second)
		require.Zero(t, w.count(mx), "there is a back-off")
		pass(20 * time.Second)
		require.Equal(t, Open, ask(p, mx).State)
		require.Equal(t, map[string]uint64{"unknown": 1, "open": 1}, p.Stats().Results)
	})
}

func TestVerdictFromTheFutureIsNotUsed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	h := host{verdict: Verdict{State: Open, Checked: now, Expires: now.Add(time.Hour)}}
	require.Equal(t, Open, h.valid(now).State)
	require.Equal(t, Unknown, h.valid(now.Add(-time.Second)).State)
	require.Equal(t, Unknown, h.valid(now.Add(time.Hour)).State)
	h.verdict.State = Closed
	require.Equal(t, Unknown, h.valid(now.Add(-time.Second)).State)
}

func TestProbeNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork()
		w.takes = time.Second
		w.host(mx, good, "8.8.8.8")
		w.host("smtps-b.example.com", refusing, "8.8.4.4")
		p := w.prober(t, w.options()) // it does not run
		done := make(chan Verdict)
		for range 3 {
			go func() { done <- p.Probe(t.Context(), mx) }()
		}
		for range 3 {
			require.Equal(t, Open, (<-done).State)
		}
		require.Equal(t, 1, w.count(mx), "all three share one probe")
		require.Equal(t, Open, ask(p, mx).State, "and it is remembered")
		require.Equal(t, smtptls.Refused, p.Probe(t.Context(), "smtps-b.example.com").Cause)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, Unknown, p.Probe(ctx, mx).State)
		require.Equal(t, Open, ask(p, mx).State)
	})
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8")
		ask(p, mx)
		pass(time.Second)
		p.Configure(w.options())
		require.Equal(t, Open, ask(p, mx).State, "a reload keeps the verdicts")
		pass(5 * time.Second)

		w.mu.Lock()
		w.takes = 10 * time.Second
		w.mu.Unlock()
		ask(p, mx)
		pass(time.Second) // a probe is under way
		o := w.options()
		o.Port = 2626
		p.Configure(o)
		require.Equal(t, Unknown, ask(p, mx).State, "a verdict is about one port")
		w.host(mx, silent, "8.8.8.8")
		pass(10 * time.Second)
		require.NotEqual(t, Open, ask(p, mx).State, "what the old probe found is thrown away")
		pass(30 * time.Second)
		require.Equal(t, Closed, ask(p, mx).State)
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork()
		w.host(mx, good, "8.8.8.8")
		p := w.prober(t, w.options())
		require.Equal(t, Open, p.Probe(t.Context(), mx).State)
		for i := range 3 * maxHosts {
			ask(p, mxn(i))
			require.LessOrEqual(t, len(p.hosts.Records), maxHosts)
		}
		st := p.Stats()
		require.Greater(t, len(p.hosts.Records), maxHosts-maxEvicted)
		require.Equal(t, Open, ask(p, mx).State, "other hosts do not displace one in use")
		require.EqualValues(t, 1, st.Hosts["open"])
		require.EqualValues(t, len(p.hosts.Records)-1, st.Hosts["unknown"])

		pass(2 * time.Second)
		h, _ := p.next(wallClock())
		require.Equal(t, mx, h.name, "and it does not wait behind them")
	})
}

func TestUntrustedSendersCauseNoProbe(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		for i := range 1000 {
			w.host(mxn(i), plain, fmt.Sprintf("8.8.8.%d", i%250+1))
			w.host(mxn(5000+i), plain, fmt.Sprintf("9.%d.%d.1", i%250, i/250))
		}
		for i := range 1000 {
			ask(p, mxn(i))
		}
		pass(10 * time.Minute)
		knocks := 0
		for i := range 1000 {
			ask(p, mxn(i))
			knocks += w.count(mxn(i))
		}
		require.LessOrEqual(t, knocks, netBurst+10*60*netPerSecond+1, "one network")
		require.Greater(t, knocks, netBurst)
		for i := range 1000 {
			ask(p, mxn(5000+i))
		}
		pass(time.Minute)
		all := 0
		for i := range 1000 {
			all += w.count(mxn(5000 + i))
		}
		require.LessOrEqual(t, all, burst+60*perSecond+1, "all networks")
		require.Greater(t, all, burst)
	})
}

func TestVerdictDoesNotAllocate(t *testing.T) {
	w := newNetwork()
	w.host(mx, good, "8.8.8.8")
	p := w.prober(t, w.options())
	require.Equal(t, Open, p.Probe(t.Context(), mx).State)
	ask(p, mx)
	require.Zero(t, testing.AllocsPerRun(100, func() { ask(p, mx) }))
}

// A dialogue that panics must not end the daemon, though it has a goroutine of its own, and there is no verdict, not
// even beside a good address.
func TestAPanicOfADialogueIsNotAVerdict(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8", "8.8.4.4")
		w.mu.Lock()
		w.answers[netip.MustParseAddr("8.8.4.4")] = func(*smtptls.Transcript) { panic("what a certificate") }
		w.mu.Unlock()
		require.Equal(t, Verdict{Why: "internal error"}, p.Probe(t.Context(), mx))
		require.Contains(t, w.log.String(), "what a certificate")
		w.host(mx, good, "8.8.8.8")
		require.Equal(t, Open, p.Probe(t.Context(), mx).State)
	})
}
