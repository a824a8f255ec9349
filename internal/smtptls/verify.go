package smtptls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Session is a TLS session as the handshake made it, and whether its certificate may be believed.
type Session struct {
	// Version and Cipher are IANA numbers; crypto/tls names them.
	Version, Cipher uint16
	// Chain is what the host sent, its own certificate first.
	Chain []*x509.Certificate
	Verification
}

// Verification is what became of a certificate, each part on its own. It is as strict as Postfix with
// "secure match=<host> servername=hostname", or stricter: the common name is no substitute for a SAN.
type Verification struct {
	// Path leads from the host's certificate to a trusted root; nil if there is none.
	Path []*x509.Certificate
	// SAN is the name of the certificate that matched, "" if none did.
	SAN string
	// NotAfter is when the first certificate of Path expires, or the host's own where there is no Path.
	NotAfter time.Time
	// Chain, Name and Dates say what is wrong: no trusted path, another name, expired or not yet valid.
	ChainErr, NameErr, DatesErr error
}

// Cause returns the first thing that is wrong, CauseNone for a valid certificate.
func (v *Verification) Cause() (Cause, error) {
	switch {
	case v.ChainErr != nil:
		return CertificateChain, v.ChainErr
	case v.DatesErr != nil:
		return CertificateExpired, v.DatesErr
	case v.NameErr != nil:
		return CertificateName, v.NameErr
	}
	return CauseNone, nil
}

// Trust says what a certificate is measured by.
type Trust struct {
	// Host is the name that it must have, as a DNS name among its SANs (RFC 6125): the same, or with "*" for
	// exactly the first label.
	Host string
	// Roots are trusted; nil means the system's.
	Roots *x509.CertPool
	// At is the moment at which it must be valid; zero means now.
	At time.Time
}

// Verify judges the chain that a host sent, its own certificate first (RFC 5280 section 6).
func (t Trust) Verify(chain []*x509.Certificate) Verification {
	if len(chain) == 0 {
		none := errors.New("the host sent no certificate")
		return Verification{ChainErr: none, NameErr: none}
	}
	at := t.At
	if at.IsZero() {
		at = time.Now()
	}
	leaf := chain[0]
	v := Verification{NotAfter: leaf.NotAfter}
	options := x509.VerifyOptions{
		Roots: t.Roots, Intermediates: x509.NewCertPool(), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	paths, err := leaf.Verify(options)
	if err != nil {
		// Whether it would be trusted but for the dates is told by a moment when its own are right.
		options.CurrentTime = leaf.NotBefore.Add(time.Second)
		var once error
		if paths, once = leaf.Verify(options); once != nil {
			v.ChainErr = once
		} else {
			v.DatesErr = outOfDate(paths[0], at)
		}
	}
	if v.ChainErr != nil && (at.Before(leaf.NotBefore) || at.After(leaf.NotAfter)) {
		v.DatesErr = outOfDate(chain[:1], at)
	}
	for _, path := range paths {
		if end := earliest(path); v.Path == nil || end.After(v.NotAfter) {
			v.Path, v.NotAfter = path, end
		}
	}
	for _, san := range leaf.DNSNames {
		if (&x509.Certificate{DNSNames: []string{san}}).VerifyHostname(t.Host) == nil {
			v.SAN = san
			return v
		}
	}
	v.NameErr = fmt.Errorf("the certificate is for %s, not for %s", names(leaf), t.Host)
	return v
}

// outOfDate says which certificate of a path is not valid at a moment.
func outOfDate(path []*x509.Certificate, at time.Time) error {
	for i, c := range path {
		whose := "the certificate"
		if i > 0 {
			whose = "the certificate of the issuer " + c.Subject.CommonName
		}
		switch {
		case at.After(c.NotAfter):
			return fmt.Errorf("%s expired on %s", whose, c.NotAfter.UTC().Format(time.DateTime))
		case at.Before(c.NotBefore):
			return fmt.Errorf("%s is not valid before %s", whose, c.NotBefore.UTC().Format(time.DateTime))
		}
	}
	return errors.New("a certificate of the issuers is out of date")
}

func earliest(path []*x509.Certificate) time.Time {
	end := path[0].NotAfter
	for _, c := range path[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// names lists a few of the names of a certificate for people.
func names(c *x509.Certificate) string {
	const few = 3
	text := ""
	for i, n := range c.DNSNames {
		switch {
		case i == few:
			return fmt.Sprintf("%s and %d more", text, len(c.DNSNames)-few)
		case i > 0:
			text += ", "
		}
		text += n
	}
	if text == "" {
		return "no DNS name"
	}
	return text
}

// config is for a handshake that goes on whatever the certificate, so that people can be shown what is wrong
// with it: the Verification decides. The versions are those that Postfix takes where TLS is mandatory
// (smtp_tls_mandatory_protocols), and so are the ciphers, as far as crypto/tls has them.
func (d Dialogue) config() *tls.Config {
	var suites []uint16
	for _, s := range tls.CipherSuites() {
		suites = append(suites, s.ID)
	}
	suites = append(suites, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
	return &tls.Config{
		ServerName:         d.Host,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       suites,
		InsecureSkipVerify: true, //nolint:gosec // Trust.Verify judges the chain after the handshake, and tells the errors apart
	}
}
