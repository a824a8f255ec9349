package dane

import (
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// certificate returns one in DER, and its SubjectPublicKeyInfo.
func certificate(t testing.TB) (cert, spki []byte) {
	t.Helper()
	leaf := smtptest.NewCA(t).Names(t, "mx.example.com").Leaf
	return leaf.Raw, leaf.RawSubjectPublicKeyInfo
}

func TestUsable(t *testing.T) {
	t.Parallel()
	cert, spki := certificate(t)
	sha256, sha512 := make([]byte, 32), make([]byte, 64)
	for _, c := range []struct {
		name                      string
		usage, selector, matching uint8
		data                      []byte
		want                      bool
	}{
		{"DANE-TA(2) Cert(0) SHA2-256(1)", 2, 0, 1, sha256, true},
		{"DANE-TA(2) Cert(0) SHA2-512(2)", 2, 0, 2, sha512, true},
		{"DANE-TA(2) SPKI(1) SHA2-256(1)", 2, 1, 1, sha256, true},
		{"DANE-EE(3) SPKI(1) SHA2-256(1), the recommended form", 3, 1, 1, sha256, true},
		{"DANE-EE(3) Cert(0) SHA2-512(2)", 3, 0, 2, sha512, true},
		{"DANE-TA(2) Cert(0) Full(0)", 2, 0, 0, cert, true},
		{"DANE-TA(2) SPKI(1) Full(0)", 2, 1, 0, spki, true},
		{"DANE-EE(3) Cert(0) Full(0)", 3, 0, 0, cert, true},
		{"DANE-EE(3) SPKI(1) Full(0)", 3, 1, 0, spki, true},

		{"PKIX-TA(0): undefined for SMTP", 0, 0, 1, sha256, false},
		{"PKIX-EE(1): undefined for SMTP", 1, 1, 1, sha256, false},
		{"an unknown usage", 4, 1, 1, sha256, false},
		{"PrivCert(255)", 255, 1, 1, sha256, false},
		{"an unknown selector", 3, 2, 1, sha256, false},
		{"an unknown matching type", 3, 1, 3, sha256, false},
		{"SHA2-256 of another length", 3, 1, 1, sha512, false},
		{"SHA2-256 cut short", 3, 1, 1, sha256[:31], false},
		{"SHA2-512 of another length", 3, 1, 2, sha256, false},
		{"no data", 3, 1, 1, nil, false},
		{"Full without data", 3, 0, 0, nil, false},
		{"a certificate that does not parse", 3, 0, 0, cert[:len(cert)-1], false},
		{"a certificate with something after it", 3, 0, 0, append(append([]byte{}, cert...), 0), false},
		{"a key that does not parse", 3, 1, 0, spki[1:], false},
		{"a certificate in the place of a key", 3, 1, 0, cert, false},
		{"a key in the place of a certificate", 3, 0, 0, spki, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, usable(dns.TLSA{Usage: c.usage, Selector: c.selector, MatchingType: c.matching, Data: c.data}))
		})
	}
}

// FuzzUsable: a usable record has the fields that RFC 7672 allows and data that can be compared with a certificate.
func FuzzUsable(f *testing.F) {
	cert, spki := certificate(f)
	f.Add(byte(2), byte(0), byte(0), cert)
	f.Add(byte(3), byte(1), byte(0), spki)
	f.Add(byte(3), byte(1), byte(1), make([]byte, 32))
	f.Add(byte(3), byte(0), byte(2), make([]byte, 64))
	f.Add(byte(0), byte(255), byte(9), []byte(nil))
	f.Fuzz(func(t *testing.T, usage, selector, matching byte, data []byte) {
		r := dns.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Data: data}
		if !usable(r) {
			return
		}
		require.True(t, usage == 2 || usage == 3)
		require.LessOrEqual(t, selector, byte(1))
		require.LessOrEqual(t, matching, byte(2))
		require.NotEmpty(t, data)
		r.Data = append(append([]byte{}, data...), 0)
		require.False(t, usable(r), "no form has room for one octet more")
		r.Data, r.Usage = data, usage-2
		require.False(t, usable(r), "PKIX-TA and PKIX-EE are never usable")
		if matching == 0 && selector == 0 {
			parsed, err := x509.ParseCertificate(data)
			require.NoError(t, err)
			require.Equal(t, data, parsed.Raw, "the whole of it is the certificate")
		}
	})
}
