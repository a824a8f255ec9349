package check

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/probe/probetest"
)

func TestWhoGivesUpDoesNotSpoilItForOthers(t *testing.T) {
	t.Parallel()
	ca := probetest.NewCA(t)
	cert := ca.Names(t, "starttls-a.example.com")
	r := probetest.Start(t, "127.0.0.1:0", probetest.Behaviour{Cert: &cert})
	e := newEndpoints()
	what := probe.Dialogue{Host: "starttls-a.example.com", Addr: r.Addr(), Roots: ca.Roots}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	late := e.talk(over, what)
	require.True(t, late.Ours)
	require.Zero(t, r.Connections())
	first := e.talk(t.Context(), what)
	require.True(t, first.OK(), first.Why)
	require.Equal(t, first, e.talk(t.Context(), what), "and the next one gets the same")
	require.Equal(t, 1, r.Connections())
	require.True(t, e.proven(r.Addr().Port()))
	require.Empty(t, e.busy)

	// Somebody else is connected for long.
	giveBack := e.take(t.Context(), r.Addr().Addr())
	what.Host = "starttls-b.example.com"
	waiting := e.talk(over, what)
	require.True(t, waiting.Ours, "there was no turn")
	require.Equal(t, 1, r.Connections())
	giveBack()
	require.Empty(t, e.busy)
}

func TestRefusalIsNoWitness(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := netip.MustParseAddrPort(l.Addr().String())
	require.NoError(t, l.Close())
	e := newEndpoints()
	transcript := e.talk(t.Context(), probe.Dialogue{Host: "starttls-a.example.com", Addr: nobody})
	require.Equal(t, probe.Refused, transcript.Cause)
	require.False(t, e.proven(nobody.Port()), "our own firewall may refuse as well")
}
