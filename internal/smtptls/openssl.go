package smtptls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Postfix verifies with OpenSSL, which refuses some paths that crypto/x509 accepts. Mail to such a host would wait,
// so each of these rules closes the host (x509v3_cache_extensions, check_purpose_ssl_server and build_chain of
// OpenSSL 3).
const (
	maxPath    = 12         // certificates, with smtp_tls_scert_verifydepth = 9
	maxMessage = 100 * 1024 // octets of the certificate message, SSL_MAX_CERT_LIST_DEFAULT
	entryBytes = 3          // that precede each certificate in the message
)

// rules returns the first rule of OpenSSL that the path of v breaks, nil for none. It may replace the path by the one
// that OpenSSL would build.
func (t Trust) rules(chain []*x509.Certificate, v *Verification, at time.Time) error {
	size := 0
	for _, c := range chain {
		size += entryBytes + len(c.Raw)
	}
	if size > maxMessage {
		return fmt.Errorf("the certificate message has %d octets: OpenSSL accepts %d", size, maxMessage)
	}
	paths, err := t.paths(chain, t.built(chain, at), at)
	if err != nil {
		return errors.New("OpenSSL uses the first certificate of each issuer that the host sent, which leads to no root")
	}
	if !slices.ContainsFunc(paths, func(p []*x509.Certificate) bool { return slices.Equal(p, v.Path) }) {
		v.Path, v.NotAfter = paths[0], earliest(paths[0])
	}
	path := v.Path
	if len(path) > maxPath {
		return fmt.Errorf("the path has %d certificates: Postfix accepts %d", len(path), maxPath)
	}
	root := path[len(path)-1]
	if !bytes.Equal(root.RawSubject, root.RawIssuer) || root.CheckSignature(root.SignatureAlgorithm, root.RawTBSCertificate, root.Signature) != nil {
		return fmt.Errorf("the trusted certificate %q is not self-signed: OpenSSL requires a root", NameOf(root))
	}
	for i, c := range path {
		err := purpose(c, i > 0 || len(path) == 1)
		if err == nil && i == 0 {
			err = purpose(c, false)
		}
		if err == nil && i+1 < len(path) {
			err = issued(c, path[i+1])
		}
		if err != nil {
			return fmt.Errorf("the certificate %q %w", NameOf(c), err)
		}
	}
	return nil
}

// built returns the intermediates that OpenSSL would use: a trusted issuer if there is one, otherwise the first
// matching certificate that the host sent and that is valid in time. OpenSSL never tries another one.
func (t Trust) built(chain []*x509.Certificate, at time.Time) []*x509.Certificate {
	var used []*x509.Certificate
	for current := chain[0]; len(used) < len(chain); {
		if _, err := current.Verify(x509.VerifyOptions{Roots: t.Roots, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			break
		}
		var next *x509.Certificate
		for _, c := range chain[1:] {
			if slices.Contains(used, c) || !bytes.Equal(c.RawSubject, current.RawIssuer) || issued(current, c) != nil {
				continue
			}
			if !at.Before(c.NotBefore) && !at.After(c.NotAfter) {
				next = c
				break
			}
			if next == nil || c.NotAfter.After(next.NotAfter) {
				next = c
			}
		}
		if next == nil {
			break
		}
		used = append(used, next)
		current = next
	}
	return used
}

// issued compares the authority key identifier of a certificate with its issuer (X509_check_akid).
func issued(c, issuer *x509.Certificate) error {
	raw, ok := extension(c, 35)
	if !ok {
		return nil
	}
	var id struct {
		Key    []byte        `asn1:"optional,tag:0"`
		Names  asn1.RawValue `asn1:"optional,tag:1"`
		Serial *big.Int      `asn1:"optional,tag:2"`
	}
	if _, err := asn1.Unmarshal(raw, &id); err != nil {
		return fmt.Errorf("has an authority key identifier that cannot be read: %w", ErrNotJudged)
	}
	const directoryName = 0xa4
	switch {
	case len(id.Key) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(id.Key, issuer.SubjectKeyId),
		id.Serial != nil && id.Serial.Cmp(issuer.SerialNumber) != 0,
		bytes.HasPrefix(id.Names.Bytes, []byte{directoryName}) && !bytes.Contains(id.Names.Bytes, issuer.RawIssuer):
		return fmt.Errorf("names another certificate of its issuer in its authority key identifier")
	}
	return nil
}

// purpose applies check_purpose_ssl_server to one certificate of a path; ca is set for an issuer.
func purpose(c *x509.Certificate, ca bool) error {
	server := func(u x509.ExtKeyUsage) bool { return slices.Contains(serverUses(), u) }
	if _, ok := extension(c, 37); ok && !slices.ContainsFunc(c.ExtKeyUsage, server) {
		return errors.New("has an extended key usage without serverAuth")
	}
	if err := constraints(c); err != nil {
		return err
	}
	_, limited := extension(c, 15)
	if ca {
		switch v1 := c.Version == 1 && bytes.Equal(c.RawSubject, c.RawIssuer); {
		case limited && c.KeyUsage&x509.KeyUsageCertSign == 0, !v1 && (!c.BasicConstraintsValid || !c.IsCA):
			return errors.New("is not a CA certificate")
		}
		return nil
	}
	const use = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	switch {
	case limited && c.KeyUsage&use == 0:
		return errors.New("has a key usage that does not allow TLS")
	case limited && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 && c.PublicKeyAlgorithm != x509.RSA:
		return fmt.Errorf("has a key usage without digitalSignature: %w", ErrNotJudged) // it depends on the version of TLS
	case c.BasicConstraintsValid && !c.IsCA && (c.MaxPathLen > 0 || c.MaxPathLenZero):
		return fmt.Errorf("has a path length and is not a CA certificate: %w", ErrNotJudged) // it depends on the version of OpenSSL
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); ok && key.Curve == elliptic.P224() {
		return errors.New("has a key on the curve P-224, which Postfix does not offer")
	}
	return nscert(c)
}

// nscert applies the Netscape certificate type, which OpenSSL obeys.
func nscert(c *x509.Certificate) error {
	for _, e := range c.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 1}) {
			continue
		}
		const sslServer = 1
		var bits asn1.BitString
		if _, err := asn1.Unmarshal(e.Value, &bits); err != nil || bits.At(sslServer) == 0 {
			return errors.New("has a Netscape certificate type without sslServer")
		}
	}
	return nil
}

// constraints refuses to judge name constraints on anything but DNS names, addresses, mail domains and URIs:
// crypto/x509 ignores the others where they are not critical, and OpenSSL does not.
func constraints(c *x509.Certificate) error {
	raw, ok := extension(c, 30)
	if !ok {
		return nil
	}
	notJudged := fmt.Errorf("has name constraints that policyd does not know: %w", ErrNotJudged)
	var lists, trees []asn1.RawValue
	if _, err := asn1.Unmarshal(raw, &lists); err != nil {
		return notJudged
	}
	for _, list := range lists {
		list.FullBytes[0] = asn1.TagSequence | 0x20
		if _, err := asn1.Unmarshal(list.FullBytes, &trees); err != nil {
			return notJudged
		}
		for _, tree := range trees {
			var base asn1.RawValue
			if _, err := asn1.Unmarshal(tree.Bytes, &base); err != nil || !slices.Contains([]int{1, 2, 6, 7}, base.Tag) {
				return notJudged
			}
		}
	}
	return nil
}

// extension returns the value of an extension of RFC 5280, by the last number of its identifier 2.5.29.x.
func extension(c *x509.Certificate, last int) ([]byte, bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, last}) {
			return bytes.Clone(e.Value), true
		}
	}
	return nil, false
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
// 1.3. data is what the server sent first. ok is false where there is no whole ServerHello in it.
func secureRenegotiation(data []byte) (has, ok bool) {
	const recordHeader, handshake, serverHello, renegotiationInfo = 5, 22, 2, 0xff01
	var hello []byte
	for len(data) >= recordHeader && data[0] == handshake {
		n := int(data[3])<<8 | int(data[4])
		data = data[recordHeader:]
		hello = append(hello, data[:min(n, len(data))]...)
		data = data[min(n, len(data)):]
	}
	const messageHeader, beforeSession = 4, 2 + 32
	if len(hello) < messageHeader || hello[0] != serverHello {
		return false, false
	}
	size := int(hello[1])<<16 | int(hello[2])<<8 | int(hello[3])
	if len(hello) < messageHeader+size {
		return false, false
	}
	rest := hello[messageHeader : messageHeader+size]
	if len(rest) < beforeSession+1 {
		return false, false
	}
	rest = rest[beforeSession:]
	const suiteAndCompression, lengthOfAll = 3, 2
	skip := 1 + int(rest[0]) + suiteAndCompression
	if len(rest) < skip {
		return false, false
	}
	if rest = rest[skip:]; len(rest) < lengthOfAll {
		return false, true // no extensions
	}
	for rest = rest[lengthOfAll:]; len(rest) >= 4; {
		kind, n := int(rest[0])<<8|int(rest[1]), int(rest[2])<<8|int(rest[3])
		if kind == renegotiationInfo {
			return true, true
		}
		rest = rest[min(4+n, len(rest)):]
	}
	return false, true
}
