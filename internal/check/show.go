package check

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"time"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/text"
)

// show returns a test as the report shows it.
func (d *domain) show(made *test) report.Connection {
	addr := made.dialogue.Addr
	c := report.Connection{Address: addr.Addr().String(), Port: addr.Port(), Implicit: made.dialogue.Implicit,
		Result: report.ResultOK}
	t := &made.transcript
	switch {
	case made.skipped != "":
		c.Result, c.Why = report.ResultSkipped, made.skipped
		return c
	case t.LocalFailure(), t.Cause == smtptls.NotJudged:
		c.Result = report.ResultUntested
	case !t.OK():
		c.Result = report.ResultFailed
	}
	c.Step, c.Cause, c.Why = string(t.Failed), string(t.Cause), t.Why
	c.Banner = t.Banner.String()
	if t.Postfix.Verdict != smtptls.NotAsked {
		c.Postfix = &t.Postfix
	}
	if !t.Implicit && t.EHLO.Code != 0 {
		switch {
		case !t.Offered:
			c.STARTTLS = "missing"
		case t.STARTTLS.Code == 220:
			c.STARTTLS = "offered"
		default:
			c.STARTTLS = t.STARTTLS.String()
		}
	}
	if d.options.Verbose {
		c.Dialogue = t.Lines
	}
	if t.Session != nil {
		c.Protocol, c.Cipher = tls.VersionName(t.Session.Version), tls.CipherSuiteName(t.Session.Cipher)
		c.Certificate = certificate(t.Session, d.report.At)
	}
	return c
}

// certificate returns the certificate of a session as the report shows it. at is when it must be valid.
func certificate(s *smtptls.Session, at time.Time) *report.Certificate {
	leaf := s.Chain[0]
	key, _ := keyOf(leaf)
	c := &report.Certificate{
		Subject: text.Printable(leaf.Subject.String()), Issuer: text.Printable(leaf.Issuer.String()), Names: []string{},
		Matched: s.SAN, Trusted: s.Path != nil, Chain: []string{},
		NotBefore: leaf.NotBefore.UTC(), NotAfter: s.NotAfter.UTC(), DaysLeft: daysLeft(s.NotAfter, at),
		Key: key, Signature: leaf.SignatureAlgorithm.String(),
	}
	for _, n := range leaf.DNSNames {
		c.Names = append(c.Names, text.Printable(n))
	}
	path := s.Path
	if path == nil {
		path = s.Chain
	}
	for _, link := range path {
		c.Chain = append(c.Chain, smtptls.NameOf(link))
	}
	return c
}

// daysLeft returns the number of days until end, rounded down.
func daysLeft(end, at time.Time) int {
	const day = 24 // hours
	return int(math.Floor(end.Sub(at).Hours() / day))
}

// keyOf returns the type and size of the key of a certificate, and reports whether it is too short today.
func keyOf(c *x509.Certificate) (name string, weak bool) {
	const rsaBits, ecdsaBits = 2048, 256
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen()), key.N.BitLen() < rsaBits
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name, key.Curve.Params().BitSize < ecdsaBits
	}
	return c.PublicKeyAlgorithm.String(), false
}
