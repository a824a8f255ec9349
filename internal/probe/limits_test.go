package probe

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/smtptls"
)

// Every connection counts against the rates, not every host: a host may have 16 addresses.
func TestEachAddressCountsAsAConnection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		addresses int
		postfix   smtptls.Judge
	}{"16 addresses": {MaxAddresses, nil}, "8 addresses, and Postfix connects too": {MaxAddresses / 2, fakePostfix{}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *network, p *Prober) {
				o := w.options()
				o.Postfix = c.postfix
				p.Configure(o)
				const hosts = 200
				for i := range hosts {
					var addrs []string
					for a := range c.addresses {
						addrs = append(addrs, fmt.Sprintf("%d.%d.%d.1", 11+i/100, i%100, a))
					}
					w.host(mxn(i), plain, addrs...)
					p.Want(mxn(i))
				}
				pass(time.Minute)
				connections := 0
				for i := range hosts {
					connections += w.count(mxn(i)) * MaxAddresses / c.addresses
				}
				require.LessOrEqual(t, connections, burst+61*perSecond+maxProbes*MaxAddresses, "each probe may have begun one host on credit")
				require.Greater(t, connections, 30*perSecond)
			})
		})
	}
}

// fakePostfix is a Postfix of this test.
type fakePostfix struct{}

func (fakePostfix) Ask(context.Context, smtptls.Dialogue) smtptls.Opinion { return smtptls.Opinion{} }
func (fakePostfix) Helo(context.Context) string                           { return "mail.example.com" }

// Verdicts made under other addresses, roots or another port are forgotten, in memory and on disk.
func TestVerdictsOfOtherSettingsAreForgotten(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"port":              func(o *Options) { o.Port = 2626 },
		"special addresses": func(o *Options) { o.Special = !o.Special },
		"roots":             func(o *Options) { o.Roots = x509.NewCertPool() },
	} {
		for _, state := range []State{Open, Closed} {
			t.Run(name+", "+state.String(), func(t *testing.T) {
				t.Parallel()
				run(t, func(t *testing.T, w *network, p *Prober) {
					o := w.options()
					o.Special = true
					p.Configure(o)
					w.host(mx, map[State]func(*smtptls.Transcript){Open: good, Closed: refusing}[state], "127.0.0.2")
					require.Equal(t, state, p.Probe(t.Context(), mx).State)
					p.Configure(o)
					require.Equal(t, state, p.Verdict(mx).State, "the same settings keep it")
					change(&o)
					p.Configure(o)
					require.Equal(t, Verdict{}, p.Verdict(mx))
				})
			})
		}
	}
}

// No number of reads of the transport map causes a connection, or takes room from hosts that mail goes to.
func TestReadingVerdictsCausesNothing(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *network, p *Prober) {
		w.host(mx, good, "8.8.8.8")
		for i := range 25 * 32 {
			w.host(mxn(i), silent, fmt.Sprintf("9.%d.%d.1", i/250, i%250))
		}
		for range 45 {
			for i := range 25 * 32 {
				require.Equal(t, Verdict{}, p.Verdict(mxn(i)))
			}
			pass(time.Second)
		}
		require.Zero(t, w.hosts(), "no connection")
		require.Zero(t, known(p), "and nothing is kept")
		p.Want(mx)
		pass(time.Second)
		require.Equal(t, Open, p.Verdict(mx).State)
		lastAsked := func() time.Time {
			p.hosts.Lock()
			defer p.hosts.Unlock()
			return p.hosts.Records[mx].asked
		}
		asked := lastAsked()
		pass(time.Hour)
		p.Verdict(mx)
		require.Equal(t, asked, lastAsked(), "a read does not keep a verdict in use")
		n := w.count(mx)
		for range 12 * 60 {
			p.Verdict(mx)
			pass(time.Minute)
		}
		require.Equal(t, n, w.count(mx), "a read causes no probe of a known host")
	})
}

// The verdict of Postfix is needed for an open host, and the reason names every address that is not allowed.
func TestPostfixJudgesAndTheReasonNamesEveryAddress(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	o := w.options()
	o.Postfix, o.Helo = fakePostfix{}, "mail.example.com"
	p := w.prober(t, o)
	var asked []smtptls.Dialogue
	p.dialogue = func(_ context.Context, d smtptls.Dialogue) smtptls.Transcript {
		asked = append(asked, d)
		return w.talk(t.Context(), d)
	}
	w.host(mx, good, "8.8.8.8")
	require.Equal(t, Open, p.Probe(t.Context(), mx).State)
	require.Len(t, asked, 1)
	require.Equal(t, o.Postfix, asked[0].Postfix)
	require.Equal(t, o.Helo, asked[0].Helo)
	w.host(mx, good, "10.0.0.1", "8.8.8.8", "192.168.0.1", "64:ff9b::7f00:1")
	require.Equal(t, "special-purpose addresses are not allowed: 10.0.0.1, 192.168.0.1, 64:ff9b::7f00:1", p.Probe(t.Context(), mx).Why)
	require.Len(t, asked, 1)
}

// An address that answers and that Postfix has no verdict about does not count as right.
func TestAnOpenHostNeedsAVerdictOnEveryAddressThatAnswers(t *testing.T) {
	t.Parallel()
	noVerdict := func(t *smtptls.Transcript) {
		t.Failed, t.Why = smtptls.StepPostfix, "posttls-finger: no result"
	}
	notJudged := func(t *smtptls.Transcript) {
		t.Failed, t.Cause, t.Why = smtptls.StepTLS, smtptls.NotJudged, "handshake failure"
	}
	onlyPostfix := func(t *smtptls.Transcript) { t.Session = nil } // Go could not speak with it
	for name, c := range map[string]struct {
		like  func(*smtptls.Transcript)
		state State
		cause smtptls.Cause
	}{
		"no verdict":               {noVerdict, Unknown, smtptls.CauseNone},
		"not judged":               {notJudged, Closed, smtptls.NotJudged},
		"judged by Postfix alone":  {onlyPostfix, Open, smtptls.CauseNone},
		"not reachable from here":  {unreachable, Open, smtptls.CauseNone},
		"silent":                   {silent, Open, smtptls.CauseNone},
		"right":                    {good, Open, smtptls.CauseNone},
		"plaintext on one of them": {plain, Closed, smtptls.Plaintext},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *network, p *Prober) {
				for _, first := range []string{"8.8.8.8", "8.8.4.4"} {
					w.host(mx, good, "8.8.8.8", "8.8.4.4")
					w.host("smtps-x.example", c.like, first)
					v := p.Probe(t.Context(), mx)
					require.Equal(t, c.state, v.State, v.Why)
					require.Equal(t, c.cause, v.Cause)
					if v.State == Open {
						require.False(t, v.Expires.After(v.Checked.Add(openLife)))
					}
				}
			})
		})
	}
}
