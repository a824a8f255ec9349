package smtptls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Postfix verifies with OpenSSL, which refuses some paths that crypto/x509 accepts. Mail to such a host would wait,
// so each of these rules closes the host (x509v3_cache_extensions, check_purpose_ssl_server and build_chain of
// OpenSSL 3). Where OpenSSL may decide either way, the error wraps ErrNotJudged.
const (
	maxPath    = 12         // certificates, with smtp_tls_scert_verifydepth = 9
	maxMessage = 100 * 1024 // octets of the certificate message, SSL_MAX_CERT_LIST_DEFAULT
	entryBytes = 3          // octets before each certificate in the message
)

// serverUses are the extended key usages that OpenSSL accepts for a TLS server; crypto/x509 requires one of them.
var serverUses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageMicrosoftServerGatedCrypto,
	x509.ExtKeyUsageNetscapeServerGatedCrypto}

// matches reports whether a DNS name of a certificate is for host. OpenSSL accepts "*" as the whole first label only,
// in front of at least two more labels of letters, digits and hyphens.
func matches(san, host string) bool {
	san = strings.ToLower(san)
	rest, wildcard := strings.CutPrefix(san, "*.")
	if !wildcard {
		return san == host
	}
	_, parent, _ := strings.Cut(host, ".")
	return rest == parent && strings.Contains(rest, ".") && strings.Trim(rest,
		"abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// opensslRefuses returns a rule of OpenSSL that the chain of a server or one of the paths from it breaks, nil for none.
func opensslRefuses(chain []*x509.Certificate, paths [][]*x509.Certificate) error {
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
		if err := checkPath(path); err != nil {
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

// checkPath applies the rules of check_purpose_ssl_server and build_chain to one path.
func checkPath(path []*x509.Certificate) error {
	root := path[len(path)-1]
	switch {
	case len(path) > maxPath:
		return fmt.Errorf("the path has %d certificates: Postfix accepts %d", len(path), maxPath)
	case !bytes.Equal(root.RawSubject, root.RawIssuer),
		root.CheckSignature(root.SignatureAlgorithm, root.RawTBSCertificate, root.Signature) != nil:
		return fmt.Errorf("the trusted certificate %q is not self-signed: OpenSSL requires a root", NameOf(root))
	}
	for i, c := range path {
		var issuerKey []byte
		if i+1 < len(path) {
			issuerKey = path[i+1].SubjectKeyId
		}
		if err := checkCertificate(c, i == 0, i > 0 || len(path) == 1, issuerKey); err != nil {
			return fmt.Errorf("the certificate %q %w", NameOf(c), err)
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

// checkCertificate returns what OpenSSL refuses in a certificate as that of the server, of an issuer, or of both. Where
// OpenSSL obeys what crypto/x509 ignores, or the versions of OpenSSL differ, the error wraps ErrNotJudged.
func checkCertificate(c *x509.Certificate, leaf, issuer bool, issuerKey []byte) error {
	const (
		server  = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
		headers = 4 // the headers of the sequence and of the key identifier
	)
	limited, purposes := extension(c, keyUsage) > 0, extension(c, extendedKeyUsage) > 0
	use := func(k x509.KeyUsage) bool { return !limited || c.KeyUsage&k != 0 }
	isServer := func(u x509.ExtKeyUsage) bool { return slices.Contains(serverUses, u) }
	oldRoot := c.Version == 1 && bytes.Equal(c.RawSubject, c.RawIssuer)
	key, _ := c.PublicKey.(*ecdsa.PublicKey)
	netscape := func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 1})
	}
	for _, rule := range []struct {
		broken, certain bool // certain: every version of OpenSSL refuses it
		what            string
	}{
		{purposes && !slices.ContainsFunc(c.ExtKeyUsage, isServer), true,
			"has an extended key usage without serverAuth"},
		{issuer && (!use(x509.KeyUsageCertSign) || !oldRoot && (!c.BasicConstraintsValid || !c.IsCA)), true,
			"is not a CA certificate"},
		{leaf && !use(server), true, "has a key usage that does not allow TLS"},
		{leaf && key != nil && key.Curve == elliptic.P224(), true,
			"has a key on the curve P-224, which Postfix does not offer"},
		{len(c.AuthorityKeyId) > 0 && len(issuerKey) > 0 && !bytes.Equal(c.AuthorityKeyId, issuerKey), true,
			"names another key of its issuer in its authority key identifier"},
		{extension(c, nameConstraints) > 0, false, "has name constraints"},
		{extension(c, authorityKey) > headers+len(c.AuthorityKeyId), false,
			"has an authority key identifier with a name and a serial number"},
		{leaf && slices.ContainsFunc(c.Extensions, netscape), false, "has a Netscape certificate type"},
		{leaf && !use(x509.KeyUsageDigitalSignature) && c.PublicKeyAlgorithm != x509.RSA, false,
			"has a key usage without digitalSignature"},
		{leaf && c.BasicConstraintsValid && !c.IsCA && (c.MaxPathLen > 0 || c.MaxPathLenZero), false,
			"has a path length and is not a CA certificate"},
	} {
		switch {
		case rule.broken && rule.certain:
			return errors.New(rule.what)
		case rule.broken:
			return fmt.Errorf("%s: %w", rule.what, ErrNotJudged)
		}
	}
	return nil
}

// extension returns the length of an extension, 0 if the certificate has none.
func extension(c *x509.Certificate, last int) int {
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, last}) {
			return len(e.Value)
		}
	}
	return 0
}

// recorder is a connection that keeps the first octets that are read from it, which contain the ServerHello.
type recorder struct {
	net.Conn
	kept []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	const enough = 512
	n, err := r.Conn.Read(p)
	r.kept = append(r.kept, p[:min(n, enough-len(r.kept))]...)
	return n, err
}

// secureRenegotiation reports whether a ServerHello has the extension of RFC 5746, which OpenSSL requires below TLS
// 1.3: type 0xff01 and one octet, which is 0. data is what the server sent first.
func secureRenegotiation(data []byte) bool {
	return bytes.Contains(data, []byte{0xff, 0x01, 0, 1, 0})
}
