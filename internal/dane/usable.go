package dane

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"

	"github.com/policyd/policyd/internal/dns"
)

// usable reports whether a record can authenticate a host. Usages 0 and 1 cannot: "SMTP clients cannot be expected to
// be configured with a suitably complete set of trusted public CAs" (RFC 7672 section 3.1.3). The other values must be
// known (RFC 6698 section 2.1), and the data must have the form that they require (section 4.1). Postfix judges the
// same way.
func usable(r dns.TLSA) bool {
	const usageDANETA, usageDANEEE = 2, 3
	const selectorCert, selectorSPKI = 0, 1
	const matchFull, matchSHA256, matchSHA512 = 0, 1, 2
	if r.Usage != usageDANETA && r.Usage != usageDANEEE || r.Selector != selectorCert && r.Selector != selectorSPKI {
		return false
	}
	switch r.MatchingType {
	case matchSHA256:
		return len(r.Data) == sha256.Size
	case matchSHA512:
		return len(r.Data) == sha512.Size
	case matchFull:
		var err error
		if r.Selector == selectorCert {
			_, err = x509.ParseCertificate(r.Data)
		} else {
			_, err = x509.ParsePKIXPublicKey(r.Data)
		}
		return err == nil
	}
	return false
}
