package postfix_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/postfix"
)

// "26 open … over IPv4 and over ::1": where loopback is probed, a receiver there can be another host.
func TestTheIPv6LoopbackIsAnotherHostWhereItIsProbed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, mainCF string
		probed       bool
		own          bool
	}{
		{"probed", "inet_interfaces = all\n", true, false},
		{"probed, and Postfix receives there", "inet_interfaces = 127.0.0.1, [::1]\n", true, true},
		{"not probed, and Postfix receives there", "inet_interfaces = 127.0.0.1, [::1]\n", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, parents+"myhostname = mx.own.example\n"+c.mainCF)
			s := f.site(postfix.Options{LoopbackProbed: c.probed})
			f.owns(s, "elsewhere.example", "")
			require.Equal(t, c.own, s.OwnAddr(netip.IPv6Loopback()))
			require.True(t, s.OwnAddr(netip.MustParseAddr("127.0.0.1")))
		})
	}
}
