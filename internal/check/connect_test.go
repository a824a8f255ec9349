package check

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/testkit"
)

func TestACallerThatGivesUpDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	cert := ca.Names(t, "starttls-a.example.com")
	r := smtptest.Start(t, "127.0.0.1:0", smtptest.Behaviour{Cert: &cert})
	e := newEndpoints()
	what := smtptls.Dialogue{Host: "starttls-a.example.com", Addr: r.Addr(), Roots: ca.Roots}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	late := e.runDialogue(over, what)
	require.True(t, late.LocalFailure())
	require.Zero(t, r.Connections())
	first := e.runDialogue(t.Context(), what)
	require.True(t, first.OK(), first.Why)
	require.Equal(t, first, e.runDialogue(t.Context(), what), "and the next one gets the same")
	require.Equal(t, 1, r.Connections())
	require.True(t, e.reachable(portFamilyOf(r.Addr())))
	require.False(t, e.reachable(portFamilyOf(netip.AddrPortFrom(netip.IPv6Loopback(), r.Addr().Port()))), "IPv4 proves nothing about IPv6")

	// Another dialogue stays connected for a long time.
	for i := range e.places {
		require.True(t, e.places[i].turn.TryAcquire(1), "no turn is left taken")
	}
	what.Host = "starttls-b.example.com"
	waiting := e.runDialogue(over, what)
	require.True(t, waiting.LocalFailure(), "there was no turn")
	require.Equal(t, 1, r.Connections())
}

func TestConcurrentCallersShareOneDialogue(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	cert := ca.Names(t, "starttls-a.example.com")
	r := smtptest.Start(t, "127.0.0.1:0", smtptest.Behaviour{Cert: &cert})
	e := newEndpoints()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			e.runDialogue(t.Context(), smtptls.Dialogue{Host: "starttls-a.example.com", Addr: r.Addr(), Roots: ca.Roots})
		})
	}
	callers.Wait()
	require.Equal(t, 1, r.Connections())
}

func TestARefusalIsNotAWitness(t *testing.T) {
	t.Parallel()
	refusing := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testkit.Port(t))
	e := newEndpoints()
	transcript := e.runDialogue(t.Context(), smtptls.Dialogue{Host: "starttls-a.example.com", Addr: refusing})
	require.Equal(t, smtptls.Refused, transcript.Cause)
	require.False(t, e.reachable(portFamilyOf(refusing)), "our own firewall may refuse as well")
}

// Our network may have no IPv6, so an IPv6 address that does not answer is not a fault of the host, even if the host
// answers over IPv4.
func TestOneFamilyIsNotAWitnessForTheOther(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddr("198.51.100.25"), netip.MustParseAddr("2001:db8::25")
	silent := func(a netip.Addr) smtptls.Transcript {
		return smtptls.Transcript{Addr: netip.AddrPortFrom(a, 25), Failed: smtptls.StepConnect, Cause: smtptls.Timeout}
	}
	answers := smtptls.Transcript{Addr: netip.AddrPortFrom(v4, 25)}
	for name, c := range map[string]struct {
		transcripts []smtptls.Transcript
		known       []netip.Addr // addresses that have answered before
		code        string
	}{
		"IPv6 only, and IPv4 has answered elsewhere": {[]smtptls.Transcript{silent(v6)}, []netip.Addr{v4}, "port25-untested"},
		"IPv6 only, and IPv6 has answered elsewhere": {[]smtptls.Transcript{silent(v6)}, []netip.Addr{v6}, "port25-timeout"},
		"IPv4 only, and IPv6 has answered elsewhere": {[]smtptls.Transcript{silent(v4)}, []netip.Addr{v6}, "port25-untested"},
		"both, and IPv4 answers":                     {[]smtptls.Transcript{answers, silent(v6)}, []netip.Addr{v4}, "address-unreachable"},
		"both, and IPv6 has answered elsewhere":      {[]smtptls.Transcript{answers, silent(v6)}, []netip.Addr{v4, v6}, "address-silent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &domain{Checker: &Checker{options: Options{SMTPPort: 25}, endpoints: newEndpoints()}}
			for _, a := range c.known {
				d.endpoints.accepted.Store(portFamilyOf(netip.AddrPortFrom(a, 25)), true)
			}
			h := &host{report: report.Host{Host: "starttls-a.example.com"}}
			for i := range c.transcripts {
				h.addrs = append(h.addrs, c.transcripts[i].Addr.Addr())
			}
			d.judgePort(h, &port{number: 25, codes: "port25-", transcripts: c.transcripts})
			require.Len(t, d.report.Findings, 1)
			require.Equal(t, c.code, d.report.Findings[0].Code)
		})
	}
}

func TestMoreTimeIsMoreTimeForTheDialogue(t *testing.T) {
	t.Parallel()
	dialogue := func(timeout time.Duration) time.Duration {
		d := &domain{Checker: &Checker{options: Options{Template: smtptls.Dialogue{Timeout: timeout}}}}
		return d.newTest(&host{}, netip.Addr{}, &port{number: 25}).dialogue.Timeout
	}
	require.Equal(t, 4*time.Second, dialogue(4*time.Second))
	require.Equal(t, 3*time.Minute, dialogue(3*time.Minute))
}
