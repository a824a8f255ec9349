package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// A DANE-TA record may name any issuer on the chain, which is then the trust anchor (RFC 7671 section 5.2.2).
func TestATrustAnchorMayBeAnIntermediate(t *testing.T) {
	t.Parallel()
	keys := map[string]*ecdsa.PrivateKey{}
	issue := func(name string, ca bool, parent *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, DNSNames: []string{name},
		}
		if parent == nil {
			parent = c
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		keys[name] = key
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), keys[parent.Subject.CommonName])
		require.NoError(t, err)
		c, err = x509.ParseCertificate(der)
		require.NoError(t, err)
		return c
	}
	root := issue("root.example", true, nil)
	middle := issue("middle.example", true, root)
	leaf := issue("mx.example", false, middle)
	session := &smtptls.Session{Chain: []*x509.Certificate{leaf, middle, root}}
	for _, anchor := range []*x509.Certificate{middle, root} {
		record := []dns.TLSA{{Usage: usageDANETA, Data: anchor.Raw}}
		require.True(t, matches(record, session, "mx.example", time.Now()), anchor.Subject.CommonName)
		require.False(t, matches(record, session, "other.example", time.Now()), "the name matters with DANE-TA")
	}
	short := &smtptls.Session{Chain: []*x509.Certificate{leaf}}
	digest := sha256.Sum256(middle.Raw)
	for record, want := range map[*dns.TLSA]bool{ // as posttls-finger -l dane-only judges them
		{Usage: usageDANETA, Data: middle.Raw}:                                        true,
		{Usage: usageDANETA, Selector: 1, Data: middle.RawSubjectPublicKeyInfo}:       true,
		{Usage: usageDANETA, MatchingType: 1, Data: digest[:]}:                        false,
		{Usage: usageDANETA, Data: middle.RawSubjectPublicKeyInfo}:                    false,
		{Usage: usageDANETA, Data: smtptest.NewCA(t).Names(t, "mx.example").Leaf.Raw}: false,
	} {
		require.Equal(t, want, matches([]dns.TLSA{*record}, short, "mx.example", time.Now()), "%+v", record)
		require.False(t, matches([]dns.TLSA{*record}, short, "other.example", time.Now()), "%+v", record)
	}
	own := []dns.TLSA{{Usage: usageDANETA, Data: leaf.Raw}}
	require.False(t, matches(own, session, "mx.example", time.Now()), "posttls-finger -l dane-only refuses it")
}

// A record with an unknown selector or matching type authenticates no certificate.
func TestAnUnknownSelectorOrMatchingTypeMatchesNothing(t *testing.T) {
	t.Parallel()
	leaf := smtptest.NewCA(t).Names(t, "mx.example").Leaf
	session := &smtptls.Session{Chain: []*x509.Certificate{leaf}}
	none := sha256.Sum256(nil)
	for _, r := range []dns.TLSA{
		{Usage: usageDANEEE, Selector: 2, MatchingType: 1, Data: none[:]},
		{Usage: usageDANEEE, Selector: 2},
		{Usage: usageDANEEE, MatchingType: 3},
	} {
		require.False(t, matches([]dns.TLSA{r}, session, "mx.example", time.Now()), "%+v", r)
	}
	sound := sha256.Sum256(leaf.Raw)
	require.True(t, matches([]dns.TLSA{{Usage: usageDANEEE, MatchingType: 1, Data: sound[:]}}, session, "mx.example", time.Now()))
}
