package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/smtptls"
)

func TestEveryAddressThatAnswersMustBeRight(t *testing.T) {
	t.Parallel()
	type ways []func(*smtptls.Transcript)
	for name, c := range map[string]struct {
		ways  ways
		state State
		cause smtptls.Cause
	}{
		"one, right":                             {ways{good}, Open, smtptls.CauseNone},
		"both right":                             {ways{good, good}, Open, smtptls.CauseNone},
		"one right, one silent":                  {ways{good, silent}, Open, smtptls.CauseNone},
		"one silent, one right":                  {ways{silent, good}, Open, smtptls.CauseNone},
		"one right, one we cannot reach":         {ways{good, unreachable}, Open, smtptls.CauseNone},
		"one right, one refuses":                 {ways{good, refusing}, Closed, smtptls.Refused},
		"one refuses, one right":                 {ways{refusing, good}, Closed, smtptls.Refused},
		"one right, one in the clear":            {ways{good, plain}, Closed, smtptls.Plaintext},
		"one silent, one in the clear":           {ways{silent, plain}, Closed, smtptls.Plaintext},
		"all silent":                             {ways{silent, silent}, Closed, smtptls.Timeout},
		"one silent, one we cannot reach":        {ways{silent, unreachable}, Closed, smtptls.Timeout},
		"none that we can reach":                 {ways{unreachable, unreachable}, Unknown, smtptls.CauseNone},
		"one we cannot reach, the other refuses": {ways{unreachable, refusing}, Closed, smtptls.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNetwork()
			p := w.prober(t, w.options())
			var addrs []string
			for i := range c.ways {
				addrs = append(addrs, fmt.Sprintf("8.8.8.%d", i+1))
			}
			w.host(mx, good, addrs...)
			for i, a := range w.addrs[mx] {
				w.answers[a] = c.ways[i]
			}
			v := p.Probe(t.Context(), mx)
			require.Equal(t, c.state, v.State, v.Why)
			require.Equal(t, c.cause, v.Cause, v.Why)
			require.NotEmpty(t, v.Why)
			require.Equal(t, c.state == Unknown, v.Checked.IsZero())
		})
	}
}

// Postfix applies the TLSA records of the port, so an address whose certificate they do not match closes the host.
func TestACertificateThatMatchesNoTLSARecordClosesTheHost(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	o, refused := w.options(), map[string]bool{mx: true}
	o.DANE = func(_ context.Context, host string, s *smtptls.Session) error {
		require.NotNil(t, s)
		if refused[host] {
			return errors.New("no TLSA record matches it")
		}
		return nil
	}
	p := w.prober(t, o)
	w.host(mx, good, "8.8.8.1")
	v := p.Probe(t.Context(), mx)
	require.Equal(t, Closed, v.State)
	require.Equal(t, smtptls.TLSAMismatch, v.Cause)
	require.Equal(t, "8.8.8.1: certificate: no TLSA record matches it", v.Why)
	refused[mx] = false
	require.Equal(t, Open, p.Probe(t.Context(), mx).State)
	w.host(mx, plain, "8.8.8.1")
	require.Equal(t, smtptls.Plaintext, p.Probe(t.Context(), mx).Cause, "there is no certificate")
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range MaxAddresses + 1 {
		many = append(many, fmt.Sprintf("8.8.8.%d", i+1))
	}
	for name, c := range map[string]struct {
		addrs   []string
		special bool
		cause   smtptls.Cause
		state   State
	}{
		"none":                          {nil, false, smtptls.NoAddress, Closed},
		"loopback":                      {[]string{"127.0.0.1"}, false, smtptls.AddressNotAllowed, Closed},
		"loopback of IPv6":              {[]string{"::1"}, false, smtptls.AddressNotAllowed, Closed},
		"private":                       {[]string{"10.1.2.3"}, false, smtptls.AddressNotAllowed, Closed},
		"link-local":                    {[]string{"169.254.169.254"}, false, smtptls.AddressNotAllowed, Closed},
		"multicast":                     {[]string{"224.0.0.1"}, false, smtptls.AddressNotAllowed, Closed},
		"one special among others":      {[]string{"8.8.8.8", "192.168.0.1"}, false, smtptls.AddressNotAllowed, Closed},
		"too many":                      {many, false, smtptls.AddressNotAllowed, Closed},
		"as many as may be":             {many[1:], false, smtptls.CauseNone, Open},
		"loopback where it is allowed":  {[]string{"127.0.0.1", "::1"}, true, smtptls.CauseNone, Open},
		"the same address twice":        {[]string{"8.8.8.8", "8.8.8.8"}, false, smtptls.CauseNone, Open},
		"both families":                 {[]string{"8.8.8.8", "2600::1"}, false, smtptls.CauseNone, Open},
		"an IPv4 address in disguise":   {[]string{"::ffff:8.8.8.8"}, false, smtptls.AddressNotAllowed, Closed},
		"NAT64 of an ordinary address":  {[]string{"64:ff9b::808:808"}, false, smtptls.CauseNone, Open},
		"NAT64 of loopback":             {[]string{"64:ff9b::7f00:1"}, false, smtptls.AddressNotAllowed, Closed},
		"NAT64 of a private network":    {[]string{"8.8.8.8", "64:ff9b::a00:1"}, false, smtptls.AddressNotAllowed, Closed},
		"NAT64 with a local prefix":     {[]string{"64:ff9b:1::808:808"}, false, smtptls.AddressNotAllowed, Closed},
		"AS112":                         {[]string{"2620:4f:8000::1"}, false, smtptls.AddressNotAllowed, Closed},
		"too many where all is allowed": {many, true, smtptls.AddressNotAllowed, Closed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNetwork()
			o := w.options()
			o.Special = c.special
			p := w.prober(t, o)
			w.host(mx, good, c.addrs...)
			v := p.Probe(t.Context(), mx)
			require.Equal(t, c.cause, v.Cause, v.Why)
			require.Equal(t, c.state, v.State, v.Why)
			if c.state == Closed {
				require.Zero(t, w.count(mx), "not one connection")
			}
			if c.cause == smtptls.AddressNotAllowed && len(c.addrs) < MaxAddresses {
				for _, a := range c.addrs {
					require.Equal(t, address.Special(netip.MustParseAddr(a)), strings.Contains(v.Why, a), v.Why)
				}
			}
		})
	}
}

func TestOpenVerdictEndsWithTheFirstCertificate(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	w.host(mx, good, "8.8.8.8", "8.8.8.9")
	soon := time.Now().Add(time.Hour)
	w.answers[w.addrs[mx][1]] = goodUntil(soon)
	require.True(t, soon.Equal(p.Probe(t.Context(), mx).Expires))
	w.answers[w.addrs[mx][0]] = goodUntil(time.Now().Add(-time.Second))
	require.Equal(t, smtptls.CertificateExpired, p.Probe(t.Context(), mx).Cause)
}

func TestWords(t *testing.T) {
	t.Parallel()
	require.Equal(t, "unknown", Unknown.String())
	require.Equal(t, "open", Open.String())
}
