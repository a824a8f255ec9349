package stub_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/testkit"
)

// serverConfig is that of a server with the name.
func serverConfig(t *testing.T, ca *smtptest.CA, name string) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{ca.Names(t, name)}}
}

// "A server may be tls://name@addr:853 (DNS over TLS, name verified)."
func TestStubTLS(t *testing.T) {
	t.Parallel() // it mostly waits
	ca := smtptest.NewCA(t)
	server := dnstest.New(t)
	server.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
	addr, err := server.StartTLS(serverConfig(t, ca, "dns.example"))
	require.NoError(t, err)

	t.Run("the name of the certificate", func(t *testing.T) {
		s := newStub(t, stub.Options{Servers: []string{"tls://dns.example@" + addr}, RootCAs: ca.Roots, Timeout: longTimeout})
		require.Equal(t, stub.Validating, s.State().Result, s.State().Reason)
		require.Equal(t, dns.Secure, answer(t, s, mx("example.com")).Status)
	})
	failing := map[string]struct {
		server  string
		roots   *x509.CertPool
		reason  string
		timeout time.Duration
	}{
		"another name":             {"tls://evil.example@" + addr, ca.Roots, "not evil.example", longTimeout},
		"a CA that is not trusted": {"tls://dns.example@" + addr, smtptest.NewCA(t).Roots, "the certificate is signed by an unknown authority", longTimeout},
		"a server without TLS":     {"tls://dns.example@" + server.Addr(), ca.Roots, "", shortTimeout},
	}
	for name, tc := range failing {
		t.Run(name, func(t *testing.T) {
			before := server.Queries()
			s := newStub(t, stub.Options{Servers: []string{tc.server}, RootCAs: tc.roots, Timeout: tc.timeout, Trust: stub.TrustAlways})
			require.Equal(t, stub.Unknown, s.State().Result)
			require.Contains(t, s.State().Reason, tc.reason)
			s = newStub(t, stub.Options{Servers: []string{tc.server}, RootCAs: tc.roots, Timeout: tc.timeout, Trust: stub.TrustNever})
			require.Contains(t, failure(t, s, mx("example.com")).Reason, tc.reason)
			require.Equal(t, before, server.Queries(), "no query is sent in plaintext")
		})
	}
	t.Run("a lack of trust is logged when it begins", func(t *testing.T) {
		log := &testkit.Log{}
		o := stub.Options{
			Servers: []string{"tls://dns.example@192.0.2.1"}, RootCAs: ca.Roots, Timeout: longTimeout, Logger: log.Logger(),
		}
		s := newStub(t, o)
		o.RootCAs = smtptest.NewCA(t).Roots
		require.NoError(t, s.Configure(o))
		require.Equal(t, stub.NotTrusted, s.State().Result)
		require.Equal(t, 1, log.Count("the DNS servers are not trusted"), "not again for other roots")
		o.Servers = []string{"tls://other.example@192.0.2.1"}
		require.NoError(t, s.Configure(o))
		require.Equal(t, 2, log.Count("the DNS servers are not trusted"))
		o.Servers, o.Trust = []string{"tls://dns.example@192.0.2.1"}, stub.TrustNever
		require.NoError(t, s.Configure(o))
		require.Equal(t, 2, log.Count("the DNS servers are not trusted"), "not if the caller wants no trust")
	})
	t.Run("other roots begin another epoch", func(t *testing.T) {
		o := stub.Options{Servers: []string{"tls://dns.example@" + addr}, RootCAs: ca.Roots, Timeout: longTimeout}
		s := newStub(t, o)
		before := s.Epoch()
		o.RootCAs = ca.Roots // the same, read again
		require.NoError(t, s.Configure(o))
		require.Equal(t, before, s.Epoch())
		o.RootCAs = smtptest.NewCA(t).Roots
		require.NoError(t, s.Configure(o))
		require.NotEqual(t, before.Answers, s.Epoch().Answers)
		require.Equal(t, stub.Unknown, s.State().Result)
	})
}
