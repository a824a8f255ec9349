package check_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/socketmap"
)

func TestDANE(t *testing.T) {
	t.Parallel()
	tlsa := func(cert *tls.Certificate) string {
		spki := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
		return "TLSA 3 1 1 " + hex.EncodeToString(spki[:])
	}
	other := "TLSA 3 1 1 " + strings.Repeat("ab", 32)
	set := func(t *testing.T) (*lab, string, string, *tls.Certificate) {
		l := newLab(t)
		l.domain("example.com", signed(), mx)
		addr, cert := l.host(mx), l.cert(mx)
		l.receive(addr, smtptest.Behaviour{Cert: cert})
		l.receive(addr, smtptest.Behaviour{Cert: cert, Implicit: true})
		return l, fmt.Sprintf("_25._tcp.%s", mx), fmt.Sprintf("_%d._tcp.%s", l.smtps, mx), cert
	}
	t.Run("records that match", func(t *testing.T) {
		t.Parallel()
		l, p25, p26, cert := set(t)
		l.dns.Set(p25, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{other, tlsa(cert)}})
		l.dns.Set(p26, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{tlsa(cert)}})
		r := l.check("example.com")
		require.Empty(t, codes(r, report.Error, report.Warning), "%v", r.Findings)
		require.True(t, *r.MX[0].TLSA.Matches)
		require.True(t, *r.MX[0].TLSA26.Matches)
		require.Equal(t, "dane-only", r.TLSPolicy.Text)
	})
	t.Run("records that do not", func(t *testing.T) {
		t.Parallel()
		l, p25, p26, cert := set(t)
		l.dns.Set(p25, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{other}})
		l.dns.Set(p26, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{tlsa(cert)}})
		r := l.check("example.com")
		require.Equal(t, []string{"dane-mismatch"}, codes(r, report.Error))
		require.False(t, *r.MX[0].TLSA.Matches)
	})
	// Postfix would apply the records on port 26 and not deliver, although port 25 works.
	t.Run("records that do not, for port 26", func(t *testing.T) {
		t.Parallel()
		l, p25, p26, cert := set(t)

		l.dns.Set(p25, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{tlsa(cert)}})
		l.dns.Set(p26, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{other}})
		judge := check.JudgeDANE(cached(newStub(t, l.dns)), l.smtps)
		session := &smtptls.Session{Chain: []*x509.Certificate{cert.Leaf}}
		require.ErrorContains(t, judge(t.Context(), mx, session), fmt.Sprintf("no TLSA record for port %d matches", l.smtps))
		r := l.check("example.com")
		require.Equal(t, []string{"dane-mismatch"}, codes(r, report.Error))
		require.Equal(t, socketmap.StatusNotFound, r.Transport.Status)

		l.dns.Set(p26, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{other, tlsa(cert)}})
		require.NoError(t, check.JudgeDANE(cached(newStub(t, l.dns)), l.smtps)(t.Context(), mx, session))
		require.Equal(t, socketmap.StatusOK, l.check("example.com").Transport.Status)
		for _, a := range []dnstest.Answer{{Rcode: "SERVFAIL"}, {Secure: true}, {Records: []string{other}},
			{Secure: true, Records: []string{strings.Replace(other, "3 1 1", "1 1 1", 1)}}} {
			l.dns.Set(p26, dns.TypeTLSA, a)
			require.NoError(t, check.JudgeDANE(cached(newStub(t, l.dns)), l.smtps)(t.Context(), mx, session))
		}
	})
	t.Run("port 25 only", func(t *testing.T) {
		t.Parallel()
		l, p25, p26, cert := set(t)
		l.dns.Set(p25, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{tlsa(cert)}})
		l.dns.Set(p26, dns.TypeTLSA, dnstest.Answer{Secure: true, Rcode: "NXDOMAIN"})
		r := l.check("example.com")
		require.Equal(t, []string{"dane-missing-26"}, codes(r, report.Warning))
		require.Equal(t, []string{p26 + ". IN " + tlsa(cert)}, finding(t, r, "publish-tlsa-26").Zone)
		require.Equal(t, socketmap.StatusNotFound, r.Transport.Status, "DANE keeps it on port 25")
	})
	t.Run("bogus, and failed", func(t *testing.T) {
		t.Parallel()
		l, p25, p26, _ := set(t)
		l.dns.Set(p25, dns.TypeTLSA, dnstest.Answer{Rcode: "SERVFAIL", EDE: 6})
		l.dns.Set(p26, dns.TypeTLSA, dnstest.Answer{Rcode: "SERVFAIL"})
		r := l.check("example.com")
		require.Equal(t, []string{"dane-bogus"}, codes(r, report.Error))
		require.True(t, finding(t, r, "dane-lookup-failed").Untested)
	})
	t.Run("unusable", func(t *testing.T) {
		t.Parallel()
		l, p25, _, _ := set(t)
		l.dns.Set(p25, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{"TLSA 1 1 1 " + strings.Repeat("ab", 32)}})
		require.Contains(t, codes(l.check("example.com"), report.Warning), "dane-unusable")
	})
	t.Run("a trust anchor", func(t *testing.T) {
		t.Parallel()
		l, p25, _, cert := set(t)
		chain := tls.Certificate{Certificate: [][]byte{cert.Certificate[0], l.ca.Cert.Raw}, PrivateKey: cert.PrivateKey}
		addr := l.host("starttls-ta.example.com")
		l.receive(addr, smtptest.Behaviour{Cert: &chain})
		sum := sha256.Sum256(l.ca.Cert.Raw)
		for host, want := range map[string]bool{mx: true, "starttls-ta.example.com": false} {
			l.domain("ta.example", signed(), host)
			l.dns.Set(host, dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A " + addr}})
			l.dns.Set("_25._tcp."+host, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{"TLSA 2 0 1 " + hex.EncodeToString(sum[:])}})
			l.options.Port25Only = true
			r := l.check("ta.example")
			require.NotNil(t, r.MX[0].TLSA.Matches, "%v", r.Findings)
			require.Equal(t, want, *r.MX[0].TLSA.Matches, "the name counts: %s", host)
		}
		require.NotEmpty(t, p25)
	})
}
