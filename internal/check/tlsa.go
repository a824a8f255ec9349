package check

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
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
// names nor its dates matter, RFC 7671 section 5.1), or an issuer that then stands in for the roots (DANE-TA). OpenSSL,
// and so Postfix, never takes the server's own certificate as a trust anchor.
func matches(records []dns.TLSA, s *smtptls.Session, name string, at time.Time) bool {
	for _, r := range records {
		for i, c := range s.Chain {
			data := association(c, r.Selector, r.MatchingType)
			same := data != nil && bytes.Equal(data, r.Data)
			if r.Usage == usageDANEEE && i == 0 && same {
				return true
			}
			anchor := same && i > 0 || !same && issued(r, c)
			if r.Usage != usageDANETA || !anchor {
				continue
			}
			roots := x509.NewCertPool()
			roots.AddCert(c)
			v := smtptls.Verify(s.Chain, name, roots, at)
			if v.Path != nil && v.SAN != "" && v.Faults[smtptls.CertificateExpired] == nil {
				return true
			}
		}
	}
	return false
}

// issued reports whether a record contains the whole certificate or key of the issuer of c. The server then need not
// send the certificate of the issuer, because OpenSSL takes it from the record.
func issued(r dns.TLSA, c *x509.Certificate) bool {
	if r.MatchingType != 0 {
		return false
	}
	issuer, err := &x509.Certificate{}, error(nil)
	if r.Selector == 0 {
		issuer, err = x509.ParseCertificate(r.Data)
	} else {
		issuer.PublicKey, err = x509.ParsePKIXPublicKey(r.Data)
	}
	return err == nil && issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// association returns the data of a record with this selector and matching type for a certificate (RFC 6698 section
// 2.1); nil if one of the two is unknown.
func association(c *x509.Certificate, selector, matching uint8) []byte {
	var data []byte
	switch selector {
	case 0:
		data = c.Raw
	case 1:
		data = c.RawSubjectPublicKeyInfo
	default:
		return nil
	}
	switch matching {
	case 0:
		return data
	case 1:
		sum := sha256.Sum256(data)
		return sum[:]
	case 2:
		sum := sha512.Sum512(data)
		return sum[:]
	}
	return nil
}

// record returns the TLSA record that is recommended for a certificate: "3 1 1" (RFC 7671 section 5.1).
func record(c *x509.Certificate) string {
	return fmt.Sprintf("%d 1 1 %x", usageDANEEE, association(c, 1, 1))
}
