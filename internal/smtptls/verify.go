package smtptls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Session is a TLS session as the handshake made it, and whether its certificate is valid.
type Session struct {
	// Version and Cipher are IANA numbers; crypto/tls names them.
	Version, Cipher uint16
	// Chain is what the server sent, its own certificate first.
	Chain []*x509.Certificate
	Verification
}

// Verification is the judgement of a certificate, each part on its own. It is as strict as Postfix with
// "secure match=<host> servername=hostname", or stricter: a common name does not replace a SAN.
type Verification struct {
	// Path leads from the server's certificate to a trusted root; nil if there is none.
	Path []*x509.Certificate
	// SAN is the name of the certificate that matched, "" if none did.
	SAN string
	// NotAfter is when the first certificate of Path expires, or the server's own where there is no Path.
	NotAfter time.Time
	// ChainErr, NameErr and DatesErr say what is wrong: no trusted path, another name, expired or not yet valid.
	// RulesErr names a rule of OpenSSL that a valid path breaks; it wraps ErrNotJudged where the rule was not
	// evaluated.
	ChainErr, NameErr, DatesErr, RulesErr error
}

// ErrNotJudged is wrapped by errors about certificates that Go cannot judge and OpenSSL may accept.
var ErrNotJudged = errors.New("could not be judged from here")

// Cause returns the first thing that is wrong, CauseNone for a valid certificate.
func (v *Verification) Cause() (Cause, error) {
	for _, wrong := range []struct {
		cause Cause
		err   error
	}{{CertificateChain, v.ChainErr}, {CertificateExpired, v.DatesErr}, {CertificateName, v.NameErr}, {CertificateRules, v.RulesErr}} {
		switch {
		case wrong.err == nil:
		case errors.Is(wrong.err, ErrNotJudged):
			return NotJudged, wrong.err
		default:
			return wrong.cause, wrong.err
		}
	}
	return CauseNone, nil
}

// Trust is what a certificate is measured against.
type Trust struct {
	// Host must be among the DNS names of the SAN extension (RFC 6125), as it is or with "*" for exactly its first
	// label.
	Host string
	// Roots are trusted; nil means the system's.
	Roots *x509.CertPool
	// At is the moment at which the certificate must be valid; zero means now.
	At time.Time
}

// Verify judges the chain that a server sent, its own certificate first (RFC 5280 section 6).
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
	paths, err := t.paths(chain, chain[1:], at)
	if err != nil {
		// A moment at which the certificate itself is valid shows whether only the dates are wrong.
		var later error
		if paths, later = t.paths(chain, chain[1:], leaf.NotBefore.Add(time.Second)); later != nil {
			v.ChainErr = later
			if weak := (x509.InsecureAlgorithmError(0)); errors.As(later, &weak) || strings.Contains(later.Error(), "insecure algorithm") {
				v.ChainErr = fmt.Errorf("%w: %w", later, ErrNotJudged) // OpenSSL may allow it, as Postfix configures it
			}
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
	if v.ChainErr == nil && v.DatesErr == nil {
		v.RulesErr = t.rules(chain, &v, at)
	}
	for _, san := range leaf.DNSNames {
		if matches(san, t.Host) {
			v.SAN = san
			return v
		}
	}
	v.NameErr = fmt.Errorf("the certificate is for %s, not for %s", names(leaf), t.Host)
	return v
}

// paths returns the paths from the first certificate of chain to a root.
func (t Trust) paths(chain, intermediates []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	options := x509.VerifyOptions{
		Roots: t.Roots, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: serverUses(),
	}
	for _, c := range intermediates {
		options.Intermediates.AddCert(c)
	}
	return chain[0].Verify(options)
}

// serverUses are the extended key usages of a TLS server for OpenSSL; crypto/x509 wants one of them.
func serverUses() []x509.ExtKeyUsage {
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageMicrosoftServerGatedCrypto, x509.ExtKeyUsageNetscapeServerGatedCrypto}
}

// matches reports whether a DNS name of a certificate is for host. OpenSSL accepts "*" as the whole first label only,
// in front of at least two more labels of letters, digits and hyphens.
func matches(san, host string) bool {
	san = strings.ToLower(san)
	rest, wildcard := strings.CutPrefix(san, "*.")
	if !wildcard {
		return san == host
	}
	_, parent, _ := strings.Cut(host, ".")
	return rest == parent && strings.Contains(rest, ".") && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// outOfDate names the first certificate of a path that is not valid at a moment.
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

// names lists a few of the names of a certificate, for a message.
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

// config is for a handshake that continues whatever the certificate, so that every fault can be shown: the
// Verification decides. The versions are those of TLS that RFC 8996 leaves; the ciphers are all that crypto/tls has
// and Postfix accepts where TLS is mandatory (smtp_tls_mandatory_ciphers = medium).
func (d Dialogue) config() *tls.Config {
	var suites []uint16
	for _, s := range tls.CipherSuites() {
		suites = append(suites, s.ID)
	}
	suites = append(suites,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
	return &tls.Config{
		ServerName:         d.Host,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       suites,
		InsecureSkipVerify: true, //nolint:gosec // Trust.Verify judges the chain after the handshake, and tells the errors apart
	}
}
