package smtptls

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Session is a TLS session as the handshake made it, and whether its certificate is valid.
type Session struct {
	Version, Cipher uint16              // IANA numbers; crypto/tls names them
	Chain           []*x509.Certificate // what the server sent, its own certificate first
	Verification
}

// Verification is the judgement of a certificate, each part on its own. It is as strict as Postfix with
// "secure match=<host> servername=hostname", or stricter: a common name does not replace a SAN.
type Verification struct {
	Path     []*x509.Certificate // the path from the server's certificate to a trusted root; nil if there is none
	SAN      string              // the name of the certificate that matched, "" if none did
	NotAfter time.Time           // when the first certificate of Path expires, or the server's own without a Path
	// Faults are what is wrong, by cause: CertificateChain, CertificateExpired, CertificateName, and CertificateRules
	// for a rule of OpenSSL that a valid path breaks.
	Faults map[Cause]error
}

// Cause returns the first thing that is wrong, CauseNone for a valid certificate.
func (v *Verification) Cause() (Cause, error) {
	for _, cause := range []Cause{CertificateChain, CertificateExpired, CertificateName, CertificateRules} {
		err := v.Faults[cause]
		switch {
		case errors.Is(err, ErrNotJudged):
			return NotJudged, err
		case err != nil:
			return cause, err
		}
	}
	return CauseNone, nil
}

// Verify judges the chain that a server sent, its own certificate first (RFC 5280 section 6): it must lead to one of
// the roots (nil: the system's) at a moment (zero: now), and host must be among the DNS names of the SAN extension (RFC
// 6125), as it is or with "*" for exactly its first label. crypto/tls refuses a server that sends no certificate.
func Verify(chain []*x509.Certificate, host string, roots *x509.CertPool, at time.Time) Verification {
	faults := map[Cause]error{}
	if at.IsZero() {
		at = time.Now()
	}
	leaf := chain[0]
	v := Verification{NotAfter: leaf.NotAfter, Faults: faults}
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: serverUses}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	paths, err := leaf.Verify(o)
	if err == nil {
		faults[CertificateRules] = opensslRefuses(chain, paths)
	} else {
		// A moment at which the certificate itself is valid shows whether only the dates are wrong.
		o.CurrentTime = leaf.NotBefore.Add(time.Second)
		var chainErr error
		paths, chainErr = leaf.Verify(o)
		path := chain[:1]
		if len(paths) > 0 {
			path = paths[0]
		}
		if expired := outOfDate(path, at); expired != nil {
			faults[CertificateExpired], faults[CertificateChain] = expired, chainErr
		} else {
			faults[CertificateChain] = err
		}
	}
	if err := faults[CertificateChain]; err != nil && strings.Contains(err.Error(), "insecure algorithm") {
		// OpenSSL may allow it, as Postfix configures it.
		faults[CertificateChain] = fmt.Errorf("%w: %w", err, ErrNotJudged)
	}
	for _, path := range paths {
		end := slices.MinFunc(path, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
		if v.Path == nil || end.After(v.NotAfter) {
			v.Path, v.NotAfter = path, end
		}
	}
	if i := slices.IndexFunc(leaf.DNSNames, func(san string) bool { return matches(san, host) }); i >= 0 {
		v.SAN = leaf.DNSNames[i]
	} else {
		const few = 3
		names := cmp.Or(strings.Join(leaf.DNSNames[:min(few, len(leaf.DNSNames))], ", "), "no DNS name")
		faults[CertificateName] = fmt.Errorf("the certificate is for %s, not for %s", names, host)
	}
	return v
}

// outOfDate returns an error that names the first certificate of a path that is not valid at a moment, or nil.
func outOfDate(path []*x509.Certificate, at time.Time) error {
	for _, c := range path {
		switch {
		case at.After(c.NotAfter):
			return fmt.Errorf("the certificate %q expired on %s", NameOf(c), c.NotAfter.UTC().Format(time.DateTime))
		case at.Before(c.NotBefore):
			return fmt.Errorf("the certificate %q is not valid before %s", NameOf(c),
				c.NotBefore.UTC().Format(time.DateTime))
		}
	}
	return nil
}

// config is for a handshake that continues whatever the certificate, so that every fault can be shown: the
// Verification decides. The versions are those of TLS that RFC 8996 leaves; the ciphers are all that crypto/tls has
// and Postfix accepts where TLS is mandatory (smtp_tls_mandatory_ciphers = medium).
func (d Dialogue) config() *tls.Config {
	var suites []uint16
	for _, s := range append(tls.InsecureCipherSuites(), tls.CipherSuites()...) {
		if !strings.Contains(s.Name, "RC4") && !strings.Contains(s.Name, "3DES") {
			suites = append(suites, s.ID)
		}
	}
	return &tls.Config{
		ServerName:   d.Host,
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites,
		// Verify judges the chain after the handshake, and distinguishes the errors.
		InsecureSkipVerify: true, //nolint:gosec // see above
	}
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
