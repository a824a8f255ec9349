package stub_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/stub"
)

// authority is a private CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert: cert, key: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// config is that of a server with the name.
func (a *authority) config(t *testing.T, name string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// "A server may be tls://name@addr:853 (DNS over TLS, name verified)."
func TestStubTLS(t *testing.T) {
	t.Parallel() // it waits more than it works
	ca := newAuthority(t)
	server := dnstest.New(t)
	server.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
	addr, err := server.StartTLS(ca.config(t, "dns.example"))
	require.NoError(t, err)

	t.Run("the name of the certificate", func(t *testing.T) {
		s := newStub(t, stub.Options{Servers: []string{"tls://dns.example@" + addr}, RootCAs: ca.pool(), Timeout: patient})
		require.Equal(t, stub.Validating, s.State().Result, s.State().Reason)
		require.Equal(t, dns.Secure, answer(t, s, mx("example.com")).Status)
	})
	failing := map[string]struct {
		server string
		roots  *x509.CertPool
		reason string
	}{
		"another name":             {"tls://evil.example@" + addr, ca.pool(), "not evil.example"},
		"a CA that is not trusted": {"tls://dns.example@" + addr, newAuthority(t).pool(), "the certificate is signed by an unknown authority"},
		"a server without TLS":     {"tls://dns.example@" + server.Addr(), ca.pool(), ""},
	}
	for name, tc := range failing {
		t.Run(name, func(t *testing.T) {
			before := server.Queries()
			s := newStub(t, stub.Options{Servers: []string{tc.server}, RootCAs: tc.roots, Timeout: hasty, Trust: stub.TrustAlways})
			require.Equal(t, stub.Unknown, s.State().Result)
			require.Contains(t, s.State().Reason, tc.reason)
			s = newStub(t, stub.Options{Servers: []string{tc.server}, RootCAs: tc.roots, Timeout: hasty, Trust: stub.TrustNever})
			require.Contains(t, failure(t, s, mx("example.com")).Reason, tc.reason)
			require.Equal(t, before, server.Queries(), "no query is sent in plaintext")
		})
	}
	t.Run("other roots begin another epoch", func(t *testing.T) {
		o := stub.Options{Servers: []string{"tls://dns.example@" + addr}, RootCAs: ca.pool(), Timeout: patient}
		s := newStub(t, o)
		before := s.Epoch()
		o.RootCAs = ca.pool() // the same, read again
		require.NoError(t, s.Configure(o))
		require.Equal(t, before, s.Epoch())
		o.RootCAs = newAuthority(t).pool()
		require.NoError(t, s.Configure(o))
		require.NotEqual(t, before.Answers, s.Epoch().Answers)
		require.Equal(t, stub.Unknown, s.State().Result)
	})
}
