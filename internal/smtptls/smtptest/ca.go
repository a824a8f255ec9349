// Package smtptest has receivers for tests of the SMTP and TLS dialogue: they keep their
// promise, or break it in one way each.
package smtptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

// CA is a private certificate authority.
type CA struct {
	// Roots trust it.
	Roots *x509.CertPool
	Cert  *x509.Certificate
	key   *ecdsa.PrivateKey
}

// TB is the part of testing.TB that certificates need, so that a program which is not a test can make them too.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// NewCA returns a CA that is valid for ten years around the present.
func NewCA(t TB) *CA {
	t.Helper()
	ca := &CA{Roots: x509.NewCertPool(), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Lab Root"},
		NotBefore: time.Now().AddDate(-5, 0, 0), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.Cert = sign(t, template, template, ca.key, ca.key)
	ca.Roots.AddCert(ca.Cert)
	return ca
}

// PEM returns the certificate of the authority as a file of root certificates has it.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})
}

// Leaf describes a certificate. The zero Leaf is valid for 90 days and for no name.
type Leaf struct {
	Names []string
	// CommonName is the subject; "" for none.
	CommonName string
	// NotBefore and NotAfter are an hour ago and in 90 days unless set.
	NotBefore, NotAfter time.Time
	// SelfSigned leaves the CA out.
	SelfSigned bool
	// KeyUsage and ExtKeyUsage are those of a TLS server unless set.
	KeyUsage    x509.KeyUsage
	ExtKeyUsage []x509.ExtKeyUsage
}

// Issue makes a certificate.
func (ca *CA) Issue(t TB, l Leaf) tls.Certificate {
	t.Helper()
	if l.NotBefore.IsZero() {
		l.NotBefore = time.Now().Add(-time.Hour)
	}
	if l.NotAfter.IsZero() {
		l.NotAfter = time.Now().AddDate(0, 0, 90)
	}
	if l.KeyUsage == 0 {
		l.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if l.ExtKeyUsage == nil {
		l.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: l.CommonName},
		DNSNames: l.Names, NotBefore: l.NotBefore, NotAfter: l.NotAfter,
		KeyUsage: l.KeyUsage, ExtKeyUsage: l.ExtKeyUsage,
	}
	parent, parentKey := ca.Cert, ca.key
	if l.SelfSigned {
		parent, parentKey = template, key
	}
	cert := sign(t, template, parent, key, parentKey)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// Names issues a valid certificate for names.
func (ca *CA) Names(t TB, names ...string) tls.Certificate {
	t.Helper()
	return ca.Issue(t, Leaf{Names: names})
}

func newKey(t TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
