package check

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
)

// The values of RFC 6698 section 2.1 that SMTP can use, RFC 7672 section 3.1.
const (
	usageDANETA = 2
	usageDANEEE = 3
)

// matches reports whether one of the records authenticates a session: the certificate itself (DANE-EE: neither its
// names nor its dates matter, RFC 7671 section 5.1), or an issuer on its chain that then stands in for the roots
// (DANE-TA).
func matches(records []dns.TLSA, s *smtptls.Session, name string, at time.Time) bool {
	for _, r := range records {
		switch r.Usage {
		case usageDANEEE:
			if selected(r, s.Chain[0]) {
				return true
			}
		case usageDANETA:
			for _, issuer := range s.Chain {
				if !selected(r, issuer) {
					continue
				}
				roots := x509.NewCertPool()
				roots.AddCert(issuer)
				v := smtptls.Verify(s.Chain, name, roots, at)
				if v.Path != nil && v.SAN != "" && v.Faults[smtptls.CertificateExpired] == nil {
					return true
				}
			}
		}
	}
	return false
}

// selected reports whether a record is about a certificate.
func selected(r dns.TLSA, c *x509.Certificate) bool {
	var data []byte
	switch r.Selector {
	case 0:
		data = c.Raw
	case 1:
		data = c.RawSubjectPublicKeyInfo
	default:
		return false
	}
	switch r.MatchingType {
	case 0:
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	default:
		return false
	}
	return bytes.Equal(data, r.Data)
}

// record is the TLSA record that is recommended for a certificate: "3 1 1" (RFC 7671 section 5.1).
func record(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return fmt.Sprintf("%d 1 1 %s", usageDANEEE, hex.EncodeToString(sum[:]))
}
