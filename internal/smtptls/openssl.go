package smtptls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
)

// Postfix verifies with OpenSSL, which refuses some paths that crypto/x509 accepts. Mail to such a host would wait,
// so each of these rules closes the host (x509v3_cache_extensions, check_purpose_ssl_server and build_chain of
// OpenSSL 3). Where OpenSSL may decide either way, the error wraps ErrNotJudged.
const (
	maxPath    = 12         // certificates, with smtp_tls_scert_verifydepth = 9
	maxMessage = 100 * 1024 // octets of the certificate message, SSL_MAX_CERT_LIST_DEFAULT
	entryBytes = 3          // that precede each certificate in the message
)

// rules returns a rule of OpenSSL that the chain of a server or one of the paths from it breaks, nil for none.
func rules(chain []*x509.Certificate, paths [][]*x509.Certificate) error {
	size := 0
	for i, c := range chain {
		size += entryBytes + len(c.Raw)
		twin := func(other *x509.Certificate) bool {
			return bytes.Equal(other.RawSubject, c.RawSubject) && !other.Equal(c)
		}
		if slices.ContainsFunc(chain[:i], twin) {
			return fmt.Errorf("the host sent two certificates %q, of which OpenSSL tries the first: %w", NameOf(c),
				ErrNotJudged)
		}
	}
	if size > maxMessage {
		return fmt.Errorf("the certificate message has %d octets: OpenSSL accepts %d", size, maxMessage)
	}
	var broken error
	sound := false
	for _, path := range paths {
		if err := follow(path); err != nil {
			broken = err
		} else {
			sound = true
		}
	}
	if sound && broken != nil {
		return fmt.Errorf("%w; another path is valid, and which one OpenSSL takes %w", broken, ErrNotJudged)
	}
	return broken
}

// follow applies the rules to one path, check_purpose_ssl_server to each certificate.
func follow(path []*x509.Certificate) error {
	root := path[len(path)-1]
	switch {
	case len(path) > maxPath:
		return fmt.Errorf("the path has %d certificates: Postfix accepts %d", len(path), maxPath)
	case !bytes.Equal(root.RawSubject, root.RawIssuer),
		root.CheckSignature(root.SignatureAlgorithm, root.RawTBSCertificate, root.Signature) != nil:
		return fmt.Errorf("the trusted certificate %q is not self-signed: OpenSSL requires a root", NameOf(root))
	}
	for i, c := range path {
		leaf, issuer := i == 0, i > 0 || len(path) == 1
		if what := refused(c, leaf, issuer); what != "" {
			return fmt.Errorf("the certificate %q %s", NameOf(c), what)
		}
		if i+1 < len(path) {
			above := path[i+1].SubjectKeyId
			if len(c.AuthorityKeyId) > 0 && len(above) > 0 && !bytes.Equal(c.AuthorityKeyId, above) {
				return fmt.Errorf("the certificate %q names another key of its issuer in its authority key identifier",
					NameOf(c))
			}
		}
		if what := undecided(c, leaf); what != "" {
			return fmt.Errorf("the certificate %q has %s: %w", NameOf(c), what, ErrNotJudged)
		}
	}
	return nil
}

// The extensions of RFC 5280, by the last number of their identifiers 2.5.29.x.
const (
	keyUsage         = 15
	nameConstraints  = 30
	authorityKey     = 35
	extendedKeyUsage = 37
)

// refused returns what OpenSSL refuses in a certificate as that of the server, as that of an issuer, or as both.
func refused(c *x509.Certificate, leaf, issuer bool) string {
	const use = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	limited := len(extension(c, keyUsage)) > 0
	firstVersion := c.Version == 1 && bytes.Equal(c.RawSubject, c.RawIssuer)
	key, _ := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case len(extension(c, extendedKeyUsage)) > 0 &&
		!slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return slices.Contains(serverUses(), u) }):
		return "has an extended key usage without serverAuth"
	case issuer && limited && c.KeyUsage&x509.KeyUsageCertSign == 0,
		issuer && !firstVersion && (!c.BasicConstraintsValid || !c.IsCA):
		return "is not a CA certificate"
	case leaf && limited && c.KeyUsage&use == 0:
		return "has a key usage that does not allow TLS"
	case leaf && key != nil && key.Curve == elliptic.P224():
		return "has a key on the curve P-224, which Postfix does not offer"
	}
	return ""
}

// undecided returns what a certificate has that OpenSSL obeys and crypto/x509 does not, or that the versions of OpenSSL
// judge differently.
func undecided(c *x509.Certificate, leaf bool) string {
	const headers = 4 // of the sequence and of the key identifier
	netscape := asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 1}
	switch {
	case len(extension(c, nameConstraints)) > 0:
		return "name constraints"
	case len(extension(c, authorityKey)) > headers+len(c.AuthorityKeyId):
		return "an authority key identifier with a name and a serial number"
	case !leaf:
	case len(find(c, netscape)) > 0:
		return "a Netscape certificate type"
	case len(extension(c, keyUsage)) > 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 &&
		c.PublicKeyAlgorithm != x509.RSA:
		return "a key usage without digitalSignature"
	case c.BasicConstraintsValid && !c.IsCA && (c.MaxPathLen > 0 || c.MaxPathLenZero):
		return "a path length and is not a CA certificate"
	}
	return ""
}

func extension(c *x509.Certificate, last int) []byte {
	return find(c, asn1.ObjectIdentifier{2, 5, 29, last})
}

// find returns the value of an extension, nil if the certificate has none.
func find(c *x509.Certificate, id asn1.ObjectIdentifier) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value
		}
	}
	return nil
}

// NameOf returns what an administrator calls a certificate, in printable ASCII.
func NameOf(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return Tidy(c.Subject.CommonName)
	case len(c.DNSNames) > 0:
		return Tidy(c.DNSNames[0])
	}
	return Tidy(c.Subject.String())
}

// secureRenegotiation reports whether a ServerHello has the extension of RFC 5746, which OpenSSL requires below TLS
// 1.3: type 0xff01 and one octet, which is 0. data is what the server sent first.
func secureRenegotiation(data []byte) bool {
	const headers = 9 // of the record, and of the message, whose length is in the last three octets
	if len(data) < headers {
		return false
	}
	end := headers + int(data[6])<<16 + int(data[7])<<8 + int(data[8])
	return bytes.Contains(data[:min(end, len(data))], []byte{0xff, 0x01, 0, 1, 0})
}
