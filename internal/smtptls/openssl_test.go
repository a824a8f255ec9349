package smtptls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const opensslHost = "smtps-a.example.com"

// The rules of OpenSSL; the end-to-end test of receivers compares them with the installed Postfix.
func TestRulesOfOpenSSL(t *testing.T) {
	t.Parallel()
	type signed struct {
		*x509.Certificate
		key *ecdsa.PrivateKey
	}
	serial := int64(0)
	issue := func(template x509.Certificate, parent *signed) *signed {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		serial++
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(serial), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		by := parent
		if by == nil {
			by = &signed{&template, key}
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, by.Certificate, key.Public(), by.key)
		require.NoError(t, err)
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return &signed{c, key}
	}
	ca := x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := x509.Certificate{DNSNames: []string{opensslHost}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	named := func(c x509.Certificate, name string) x509.Certificate { c.Subject.CommonName = name; return c }
	extended := func(c x509.Certificate, id asn1.ObjectIdentifier, value ...byte) x509.Certificate {
		c.ExtraExtensions = []pkix.Extension{{Id: id, Value: value}}
		return c
	}
	root := issue(named(ca, "root"), nil)
	middle := issue(named(ca, "middle"), root)
	twin := issue(named(ca, "middle"), root)
	twin.SubjectKeyId = middle.SubjectKeyId
	verify := func(roots *signed, chain ...*signed) error {
		pool := x509.NewCertPool()
		pool.AddCert(roots.Certificate)
		var certs []*x509.Certificate
		for _, c := range chain {
			certs = append(certs, c.Certificate)
		}
		v := Verify(certs, opensslHost, pool, time.Time{})
		require.NoError(t, v.Faults[CertificateChain])
		require.NoError(t, v.Faults[CertificateName])
		return v.Faults[CertificateRules]
	}
	anyUse, none := leaf, leaf
	anyUse.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	none.ExtKeyUsage = nil
	signing := leaf
	signing.KeyUsage = x509.KeyUsageContentCommitment
	caAny := named(ca, "root of any use")
	caAny.ExtKeyUsage = anyUse.ExtKeyUsage
	netscape, akid, constraint := asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 1}, asn1.ObjectIdentifier{2, 5, 29, 35}, asn1.ObjectIdentifier{2, 5, 29, 30}
	directory := named(extended(ca, constraint, 0x30, 8, 0xa0, 6, 0x30, 4, 0xa4, 2, 0x30, 0), "constrained")
	constrained := issue(directory, root)
	long := []*signed{root}
	for range maxPath - 1 {
		long = append([]*signed{issue(named(ca, "link"+big.NewInt(serial).String()), long[0])}, long...)
	}
	self := issue(leaf, nil)
	anyRoot := issue(caAny, nil)

	require.NoError(t, verify(root, issue(leaf, root)))
	require.NoError(t, verify(root, issue(none, root)))
	require.NoError(t, verify(root, issue(leaf, middle), middle, root))
	require.NoError(t, verify(root, append([]*signed{issue(leaf, long[1])}, long[1:]...)...))
	for _, c := range []struct {
		why   string
		roots *signed
		chain []*signed
	}{
		{"extended key usage without serverAuth", root, []*signed{issue(anyUse, root)}},
		{"extended key usage without serverAuth", anyRoot, []*signed{issue(leaf, anyRoot)}},
		{"key usage that does not allow TLS", root, []*signed{issue(signing, root)}},
		{"Netscape certificate type", root, []*signed{issue(extended(leaf, netscape, 3, 2, 7, 0x80), root)}},
		{"authority key identifier", root, []*signed{issue(extended(leaf, akid, 0x30, 4, 0x80, 2, 9, 9), root)}},
		{"is not self-signed", middle, []*signed{issue(leaf, middle)}},
		{"is not a CA certificate", self, []*signed{self}},
		{"name constraints", root, []*signed{issue(leaf, constrained), constrained}},
		{"the path has 13 certificates", root, append([]*signed{issue(leaf, long[0])}, long...)},
		{"of which OpenSSL tries the first", root, []*signed{issue(leaf, middle), twin, middle}},
	} {
		require.ErrorContains(t, verify(c.roots, c.chain...), c.why)
	}
	require.ErrorIs(t, verify(root, issue(leaf, constrained), constrained), ErrNotJudged)
}

func FuzzSecureRenegotiation(f *testing.F) {
	hello := append([]byte{22, 3, 3, 0, 51, 2, 0, 0, 47, 3, 3}, make([]byte, 32)...)
	f.Add(append(hello, 0, 0x00, 0x9c, 0, 0, 5, 0xff, 1, 0, 1, 0), true)
	f.Add(append(hello, 0, 0x00, 0x9c, 0), false)
	f.Fuzz(func(t *testing.T, data []byte, _ bool) {
		for n := range data {
			if secureRenegotiation(data[:n]) {
				require.True(t, secureRenegotiation(data), "more data takes nothing away")
			}
		}
	})
}
