package check

import (
	"crypto/x509"

	"github.com/policyd/policyd/internal/dns"
)

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
