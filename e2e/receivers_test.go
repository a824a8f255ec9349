//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/internal/check"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/stub"
)

// receiver is one server that Postfix and policyd judge.
type receiver struct {
	name string
	make func(f *forge) smtptest.Behaviour
	// starttls serves port 25 in place of port 26.
	starttls bool
	// host is the name of the MX host; "" means smtps-a.rN.example.
	host string

	domain, addr string
	forge        *forge
	sent         bool               // Postfix delivers
	with         map[bool]judgement // of policyd, with and without posttls-finger
}

// judgement is what policyd makes of a receiver.
type judgement struct {
	talk   smtptls.Transcript
	open   bool
	errors []string // codes of check about the port
}

// speaks is a receiver with a certificate.
func speaks(c *tls.Certificate) smtptest.Behaviour { return smtptest.Behaviour{Cert: c} }

// leafWith is a receiver whose certificate, issued by a root, differs from a sound one by changes.
func leafWith(changes ...change) func(*forge) smtptest.Behaviour {
	return func(f *forge) smtptest.Behaviour { return speaks(chain(f.leaf(f.ca(nil), changes...))) }
}

// below is a receiver whose intermediate certificate differs from a sound one by changes.
func below(changes ...change) func(*forge) smtptest.Behaviour {
	return func(f *forge) smtptest.Behaviour {
		i := f.ca(f.ca(nil), changes...)
		return speaks(chain(f.leaf(i), i))
	}
}

// says is a receiver with a good certificate and unusual behaviour.
func says(b smtptest.Behaviour) func(*forge) smtptest.Behaviour {
	return func(f *forge) smtptest.Behaviour {
		b.Cert = chain(f.leaf(f.ca(nil)))
		return b
	}
}

// by is a receiver that openssl s_server serves.
func by(args []string, keygen ...string) func(*forge) smtptest.Behaviour {
	return func(f *forge) smtptest.Behaviour {
		return smtptest.Behaviour{Cert: &tls.Certificate{}, TLS: f.opensslTLS(f.opensslLeaf(nil, keygen...), args...)}
	}
}

// many is a receiver whose path has n intermediates.
func many(n int) func(*forge) smtptest.Behaviour {
	return func(f *forge) smtptest.Behaviour {
		var cas []*cert
		last := f.ca(nil)
		for range n {
			last = f.ca(last)
			cas = append([]*cert{last}, cas...)
		}
		return speaks(chain(f.leaf(last), cas...))
	}
}

// twins is a receiver that sends two intermediates of one name. The first has changes and may have another key.
func twins(otherKey bool, changes ...change) func(*forge) smtptest.Behaviour {
	return func(f *forge) smtptest.Behaviour {
		root := f.ca(nil)
		good := f.ca(root, func(t *x509.Certificate) { t.SubjectKeyId = []byte{1} })
		key := good.key
		if otherKey {
			key = f.ecKey()
		}
		twin := f.issue(&x509.Certificate{
			Subject: good.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
		}, key, root, changes...)
		return speaks(chain(f.leaf(good), twin, good))
	}
}

func receivers() []*receiver {
	rsa2048 := []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}
	anyUse, server, client := x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	long := strings.Repeat("x", 3000)
	noCA := func(t *x509.Certificate) { t.IsCA, t.BasicConstraintsValid = false, false }
	return []*receiver{
		// The slowest receiver is the first, so that the others are judged while it waits.
		{name: "greeting after 25 s", make: says(smtptest.Behaviour{Delay: 25 * time.Second})},
		// Certificates that are sound.
		{name: "ECDSA P-256", make: leafWith()},
		{name: "RSA 2048", make: func(f *forge) smtptest.Behaviour { return speaks(chain(f.leafOf(f.rsaKey(2048), f.ca(nil)))) }},
		{name: "ECDSA P-521", make: func(f *forge) smtptest.Behaviour {
			key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
			require.NoError(f.t, err)
			return speaks(chain(f.leafOf(key, f.ca(nil))))
		}},
		{name: "Ed25519", make: func(f *forge) smtptest.Behaviour {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			require.NoError(f.t, err)
			return speaks(chain(f.leafOf(key, f.ca(nil))))
		}},
		{name: "intermediate", make: below()},
		{name: "root sent too", make: func(f *forge) smtptest.Behaviour { r := f.ca(nil); return speaks(chain(f.leaf(r), r)) }},
		{name: "leaf sent twice", make: func(f *forge) smtptest.Behaviour { l := f.leaf(f.ca(nil)); return speaks(chain(l, l)) }},
		{name: "unrelated certificate sent", make: func(f *forge) smtptest.Behaviour { return speaks(chain(f.leaf(f.ca(nil)), f.ca(nil))) }},
		{name: "wildcard", make: leafWith(func(t *x509.Certificate) { _, rest, _ := strings.Cut(t.DNSNames[0], "."); t.DNSNames[0] = "*." + rest })},
		{name: "name in upper case", make: leafWith(func(t *x509.Certificate) { t.DNSNames[0] = strings.ToUpper(t.DNSNames[0]) })},
		// Extended key usage.
		{name: "EKU any", make: leafWith(eku(anyUse))},
		{name: "EKU client", make: leafWith(eku(client))},
		{name: "EKU any and server", make: leafWith(eku(anyUse, server))},
		{name: "EKU client and server", make: leafWith(eku(client, server))},
		{name: "EKU none", make: leafWith(eku())},
		{name: "EKU e-mail and any", make: leafWith(eku(x509.ExtKeyUsageEmailProtection, anyUse))},
		{name: "EKU Microsoft gated", make: leafWith(eku(x509.ExtKeyUsageMicrosoftServerGatedCrypto))},
		{name: "EKU any on the intermediate", make: below(eku(anyUse))},
		{name: "EKU server on the intermediate", make: below(eku(server))},
		{name: "EKU any on the root", make: func(f *forge) smtptest.Behaviour { return speaks(chain(f.leaf(f.ca(nil, eku(anyUse))))) }},
		// Key usage.
		{name: "KU nonRepudiation", make: leafWith(ku(x509.KeyUsageContentCommitment))},
		{name: "KU certSign", make: leafWith(ku(x509.KeyUsageCertSign))},
		{name: "KU keyEncipherment, ECDSA", make: leafWith(ku(x509.KeyUsageKeyEncipherment))},
		{name: "KU keyEncipherment, RSA", make: func(f *forge) smtptest.Behaviour {
			return speaks(chain(f.leafOf(f.rsaKey(2048), f.ca(nil), ku(x509.KeyUsageKeyEncipherment))))
		}},
		{name: "KU without a bit", make: leafWith(ku(0), with(true, []byte{3, 2, 7, 0}, 15))},
		{name: "KU none", make: leafWith(ku(0))},
		{name: "KU digitalSignature on the intermediate", make: below(ku(x509.KeyUsageDigitalSignature))},
		{name: "KU without a bit on the intermediate", make: below(ku(0), with(true, []byte{3, 2, 7, 0}, 15))},
		// Netscape certificate type.
		{name: "nsCertType client", make: leafWith(with(false, []byte{3, 2, 7, 0x80}, 2, 16, 840, 1, 113730, 1, 1))},
		{name: "nsCertType server", make: leafWith(with(false, []byte{3, 2, 6, 0x40}, 2, 16, 840, 1, 113730, 1, 1))},
		{name: "nsCertType SSL CA on the intermediate", make: below(with(false, []byte{3, 2, 2, 0x04}, 2, 16, 840, 1, 113730, 1, 1))},
		{name: "nsCertType server on the intermediate", make: below(with(false, []byte{3, 2, 6, 0x40}, 2, 16, 840, 1, 113730, 1, 1))},
		// Authority key identifier.
		{name: "AKI another key", make: leafWith(akid([]byte{9, 9}, nil))},
		{name: "AKI issuer and serial", make: func(f *forge) smtptest.Behaviour {
			r := f.ca(nil)
			return speaks(chain(f.leaf(r, akid(r.SubjectKeyId, r.Certificate))))
		}},
		{name: "AKI old certificate of the CA", make: func(f *forge) smtptest.Behaviour {
			old := f.ca(nil)
			f.roots = nil
			renewed := f.issue(&x509.Certificate{Subject: old.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, old.key, nil)
			f.roots = append(f.roots, renewed.Certificate)
			return speaks(chain(f.leaf(renewed, akid(old.SubjectKeyId, old.Certificate))))
		}},
		{name: "AKI another issuer name", make: func(f *forge) smtptest.Behaviour {
			r, other := f.ca(nil), f.ca(nil)
			wrong := *other.Certificate
			wrong.SerialNumber = r.SerialNumber
			return speaks(chain(f.leaf(r, akid(nil, &wrong))))
		}},
		// The trust store.
		{name: "only the intermediate trusted", make: func(f *forge) smtptest.Behaviour {
			i := f.ca(f.ca(nil))
			f.roots = []*x509.Certificate{i.Certificate}
			return speaks(chain(f.leaf(i), i))
		}},
		{name: "only the leaf trusted", make: func(f *forge) smtptest.Behaviour {
			l := f.leaf(f.ca(nil))
			f.roots = []*x509.Certificate{l.Certificate}
			return speaks(chain(l))
		}},
		{name: "self-signed and trusted", make: func(f *forge) smtptest.Behaviour {
			l := f.leaf(nil)
			f.roots = append(f.roots, l.Certificate)
			return speaks(chain(l))
		}},
		{name: "self-signed CA as leaf, trusted", make: func(f *forge) smtptest.Behaviour {
			l := f.ca(nil, names(f.host), ku(x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature))
			return speaks(chain(l))
		}},
		{name: "self-signed", make: func(f *forge) smtptest.Behaviour { return speaks(chain(f.leaf(nil))) }},
		{name: "unknown authority", make: func(f *forge) smtptest.Behaviour { r := f.ca(nil); f.roots = nil; return speaks(chain(f.leaf(r), r)) }},
		{name: "intermediate missing", make: func(f *forge) smtptest.Behaviour { return speaks(chain(f.leaf(f.ca(f.ca(nil))))) }},
		{name: "root without CA", make: func(f *forge) smtptest.Behaviour { return speaks(chain(f.leaf(f.ca(nil, noCA)))) }},
		{name: "root without CA and without KU", make: func(f *forge) smtptest.Behaviour { return speaks(chain(f.leaf(f.ca(nil, noCA, ku(0))))) }},
		// The place in the path.
		{name: "CA as leaf", make: leafWith(func(t *x509.Certificate) { t.IsCA, t.BasicConstraintsValid = true, true })},
		{name: "CA as leaf, KU certSign", make: leafWith(func(t *x509.Certificate) { t.IsCA, t.BasicConstraintsValid = true, true }, ku(x509.KeyUsageCertSign), eku())},
		{name: "path length in the leaf", make: leafWith(with(true, []byte{0x30, 3, 2, 1, 1}, 19))},
		{name: "path length 0 in the leaf", make: leafWith(with(true, []byte{0x30, 3, 2, 1, 0}, 19))},
		{name: "path length exceeded", make: func(f *forge) smtptest.Behaviour {
			a := f.ca(f.ca(nil), func(t *x509.Certificate) { t.MaxPathLenZero = true })
			b := f.ca(a)
			return speaks(chain(f.leaf(b), b, a))
		}},
		{name: "9 intermediates", make: many(9)},
		{name: "10 intermediates", make: many(10)},
		{name: "11 intermediates", make: many(11)},
		{name: "twins, the first with another key", make: twins(true)},
		{name: "twins, the first no CA", make: twins(false, noCA, ku(x509.KeyUsageDigitalSignature))},
		{name: "twins, the first expired", make: twins(false, valid(-48*time.Hour, -24*time.Hour))},
		{name: "twins, both sound", make: twins(false)},
		// Name constraints.
		{name: "constraint on DNS, permitted", make: below(func(t *x509.Certificate) { t.PermittedDNSDomains = []string{"example"} })},
		{name: "constraint on DNS, with a dot", make: below(func(t *x509.Certificate) { t.PermittedDNSDomains = []string{".example"} })},
		{name: "constraint on DNS, excluded", make: below(func(t *x509.Certificate) { t.ExcludedDNSDomains = []string{"example"} })},
		{name: "constraint on the directory name", make: below(onlyDirectory("Somebody Else", false))},
		{name: "constraint on the directory name, critical", make: below(onlyDirectory("Somebody Else", true))},
		// Names.
		{name: "SAN *.com", host: "smtps-corpus.com", make: leafWith(names("*.com"))},
		{name: "SAN of another name", make: leafWith(names("mx.example"))},
		{name: "SAN smtps-*", make: leafWith(func(t *x509.Certificate) { t.DNSNames[0] = strings.Replace(t.DNSNames[0], "smtps-a", "smtps-*", 1) })},
		{name: "SAN * for two labels", make: leafWith(names("*.example"))},
		{name: "common name only", make: leafWith(func(t *x509.Certificate) { t.Subject.CommonName, t.DNSNames = t.DNSNames[0], nil })},
		{name: "unknown critical extension", make: leafWith(with(true, []byte{5, 0}, 1, 2, 3, 4))},
		// Dates.
		{name: "expired", make: leafWith(valid(-48*time.Hour, -time.Hour))},
		{name: "not yet valid", make: leafWith(valid(time.Hour, 48*time.Hour))},
		{name: "intermediate expired", make: below(valid(-48*time.Hour, -time.Hour))},
		{name: "root expired", make: func(f *forge) smtptest.Behaviour {
			return speaks(chain(f.leaf(f.ca(nil, valid(-48*time.Hour, -time.Hour)))))
		}},
		// TLS.
		{name: "certificate message over 100 kB", make: func(f *forge) smtptest.Behaviour {
			r := f.ca(nil)
			big := f.ca(nil, with(false, bytes.Repeat([]byte{1}, 60_000), 1, 2, 3, 4))
			return speaks(chain(f.leaf(r), big, big))
		}},
		{name: "certificate message of 60 kB", make: func(f *forge) smtptest.Behaviour {
			r := f.ca(nil)
			return speaks(chain(f.leaf(r), f.ca(nil, with(false, bytes.Repeat([]byte{1}, 60_000), 1, 2, 3, 4))))
		}},
		{name: "TLS 1.2", make: says(smtptest.Behaviour{MaxVersion: tls.VersionTLS12})},
		{name: "TLS 1.1", make: says(smtptest.Behaviour{MaxVersion: tls.VersionTLS11})},
		{name: "ECDHE-ECDSA-AES128-SHA256", make: says(smtptest.Behaviour{MaxVersion: tls.VersionTLS12, Ciphers: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}})},
		{name: "ECDHE-RSA-AES128-SHA256", make: by([]string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"}, rsa2048...)},
		{name: "ECDHE-RSA-AES256-SHA384", make: by([]string{"-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"}, rsa2048...)},
		{name: "AES128-SHA256", make: by([]string{"-tls1_2", "-cipher", "AES128-SHA256"}, rsa2048...)},
		{name: "DHE only", make: by([]string{"-tls1_2", "-cipher", "DHE"}, rsa2048...)},
		{name: "TLS 1.2 without RFC 5746", make: func(f *forge) smtptest.Behaviour {
			l := f.leafOf(f.rsaKey(2048), f.ca(nil), ku(x509.KeyUsageKeyEncipherment|x509.KeyUsageDigitalSignature))
			return smtptest.Behaviour{Cert: chain(l), TLS: oldTLS(l)}
		}},
		{name: "X448 only", make: by([]string{"-groups", "X448"}, rsa2048...)},
		{name: "P-384 only", make: by([]string{"-groups", "P-384"}, rsa2048...)},
		{name: "RSA-PSS key", make: by(nil, "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048")},
		{name: "Ed448 key", make: by(nil, "-algorithm", "ED448")},
		{name: "P-224 key", make: by([]string{"-tls1_2"}, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224")},
		{name: "handshake dropped", make: says(smtptest.Behaviour{Drop: "handshake"})},
		{name: "dropped after the handshake", make: says(smtptest.Behaviour{Drop: "banner"})},
		// Dialogues within TLS.
		{name: "greeting of 200 lines", make: says(smtptest.Behaviour{Banner: strings.Repeat("220-on and on\r\n", 199) + "220 end"})},
		{name: "greeting with a line of 3,000 octets", make: says(smtptest.Behaviour{Banner: "220 " + long})},
		{name: "greeting 250", make: says(smtptest.Behaviour{Banner: "250 hello"})},
		{name: "greeting with a line of no code", make: says(smtptest.Behaviour{Banner: "hello\r\n220 there"})},
		{name: "greeting of two codes", make: says(smtptest.Behaviour{Banner: "220-hello\r\n421 no"})},
		{name: "greeting 421", make: says(smtptest.Behaviour{Banner: "421 busy"})},
		{name: "greeting 554", make: says(smtptest.Behaviour{Banner: "554 go away"})},
		{name: "EHLO 503, HELO 250", make: says(smtptest.Behaviour{EHLO: "503 not here", HELO: "250 welcome"})},
		{name: "EHLO 503, HELO 503", make: says(smtptest.Behaviour{EHLO: "503 not here", HELO: "503 nor here"})},
		{name: "EHLO 421", make: says(smtptest.Behaviour{EHLO: "421 later", HELO: "250 welcome"})},
		{name: "EHLO with a line of 3,000 octets", make: says(smtptest.Behaviour{EHLO: "250-" + long + "\r\n250 end"})},
		// Dialogues with STARTTLS.
		{name: "25: sound", starttls: true, make: says(smtptest.Behaviour{})},
		{name: "25: 250 STARTTLS on the first line", starttls: true, make: says(smtptest.Behaviour{EHLO: "250 STARTTLS", InTLS: "250 ok"})},
		{name: "25: STARTTLS on the first of two lines", starttls: true, make: says(smtptest.Behaviour{EHLO: "250-STARTTLS\r\n250 x", InTLS: "250 ok"})},
		{name: "25: STARTTLS after 5,000 octets", starttls: true, make: says(smtptest.Behaviour{EHLO: "250-x\r\n" + strings.Repeat("250-on and on\r\n", 400) + "250 STARTTLS"})},
		{name: "25: STARTTLS=1", starttls: true, make: says(smtptest.Behaviour{EHLO: "250-x\r\n250 STARTTLS=1"})},
		{name: "25: EHLO 503 within TLS, HELO 250", starttls: true, make: says(smtptest.Behaviour{InTLS: "503 twice", HELO: "250 welcome"})},
		{name: "25: EHLO and HELO 503 within TLS", starttls: true, make: says(smtptest.Behaviour{InTLS: "503 twice", HELO: "503 twice"})},
		{name: "25: STARTTLS 250", starttls: true, make: says(smtptest.Behaviour{STARTTLS: "250 go ahead"})},
		{name: "25: STARTTLS 454", starttls: true, make: says(smtptest.Behaviour{STARTTLS: "454 not now"})},
		{name: "25: plaintext after STARTTLS", starttls: true, make: says(smtptest.Behaviour{STARTTLS: "220 go ahead\r\n250-injected"})},
		{name: "25: no STARTTLS", starttls: true, make: says(smtptest.Behaviour{EHLO: "250 hello"})},
		{name: "25: greeting of 200 lines", starttls: true, make: says(smtptest.Behaviour{Banner: strings.Repeat("220-on and on\r\n", 199) + "220 end"})},
		{name: "25: EKU any", starttls: true, make: leafWith(eku(anyUse))},
		{name: "25: DHE only", starttls: true, make: by([]string{"-tls1_2", "-cipher", "DHE"}, rsa2048...)},
	}
}

// TestReceivers compares the verdict of policyd on each receiver with what the installed Postfix does with mail for
// it. A host is never open where Postfix refuses it, and check never blames a receiver to which Postfix delivers.
func TestReceivers(t *testing.T) {
	all := receivers()
	require.Greater(t, len(all), 60)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		require.NoError(t, os.Chmod(d, 0o755)) // for Postfix's own user
	}
	var bundle bytes.Buffer
	zone := dnstest.New(t)
	for i, r := range all {
		r.domain, r.addr = fmt.Sprintf("r%d.example", i), fmt.Sprintf("127.0.%d.%d", 3+i/200, 1+i%200)
		if r.host == "" {
			r.host = "smtps-a." + r.domain
		}
		r.forge = &forge{t: t, host: r.host}
		b := r.make(r.forge)
		b.Implicit = !r.starttls
		smtptest.Start(t, fmt.Sprintf("%s:%d", r.addr, r.port()), b)
		for _, root := range r.forge.roots {
			require.NoError(t, pem.Encode(&bundle, &pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
		}
		zone.Set(r.domain, dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 " + r.host + "."}})
		zone.Set(r.host, dns.TypeA, dnstest.Answer{Records: []string{"A " + r.addr}})
		zone.Set(r.host, dns.TypeAAAA, dnstest.Answer{})
	}
	servers, err := stub.New(stub.Options{Servers: []string{zone.Addr()}})
	require.NoError(t, err)
	servers.SelfTest(t.Context())
	roots := filepath.Join(dir, "roots.pem")
	require.NoError(t, os.WriteFile(roots, bundle.Bytes(), 0o644))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(bundle.Bytes()))

	sender := startPostfix(t, dir, roots, all)
	wait := deliverToAll(t, sender, filepath.Join(dir, "etc"), all) // Postfix and policyd wait for slow receivers together
	t.Setenv("MAIL_CONFIG", filepath.Join(dir, "etc"))
	finger := &postfix.Client{Site: postfix.New(postfix.Options{}), Transport: "smtps26"}
	var group errgroup.Group
	group.SetLimit(24)
	found := map[bool][]judgement{true: make([]judgement, len(all)), false: make([]judgement, len(all))}
	for with, judgements := range found {
		var judge smtptls.Judge
		if with {
			judge = finger
		}
		checker := check.New(check.Options{
			Servers: servers, Policy: policy.Options{Port26: 26, Transport: "smtps26"}, Special: true,
			Template: smtptls.Dialogue{Roots: pool, Postfix: judge},
		})
		for i, r := range all {
			j := &judgements[i]
			group.Go(func() error {
				j.talk = smtptls.RunDialogue(t.Context(), smtptls.Dialogue{
					Host: r.host, Addr: netip.AddrPortFrom(netip.MustParseAddr(r.addr), r.port()), Implicit: !r.starttls, Roots: pool, Postfix: judge,
				})
				j.open = !r.starttls && probe.Judge([]smtptls.Transcript{j.talk}).State == probe.Open
				return nil
			})
			group.Go(func() error {
				for _, f := range checker.Check(t.Context(), r.domain).Findings {
					if f.Severity == report.Error && f.Port == r.port() {
						j.errors = append(j.errors, strings.TrimPrefix(f.Code, "port"))
					}
				}
				return nil
			})
		}
	}
	wait()
	require.NoError(t, group.Wait())
	for i, r := range all {
		r.with = map[bool]judgement{true: found[true][i], false: found[false][i]}
	}

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RECEIVER\tPOSTFIX\tPOSTTLS-FINGER\tPOLICYD\tCHECK\tPOLICYD ALONE\tCHECK ALONE\tWHY ALONE")
	for _, r := range all {
		both, alone := r.with[true], r.with[false]
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.name, word(r.sent, "delivers", "refuses"), both.talk.Postfix.Verdict, word(both.open, "open", "-"),
			strings.Join(both.errors, " "), word(alone.open, "open", "-"), strings.Join(alone.errors, " "), alone.talk.Why)
	}
	require.NoError(t, w.Flush())
	t.Logf("\n%s", table.String())
	// policyd is stricter than OpenSSL in these on purpose.
	stricter := []string{"root without CA", "common name only"}
	for _, r := range all {
		for with, j := range r.with {
			if j.open && !r.sent {
				t.Errorf("%s: open, with posttls-finger: %v, and Postfix refuses it", r.name, with)
			}
		}
		for with, j := range r.with {
			if r.sent && len(j.errors) > 0 && !slices.Contains(stricter, r.name) {
				t.Errorf("%s: check blames it for %v, with posttls-finger: %v, and Postfix delivers", r.name, j.errors, with)
			}
		}
		if r.sent && !r.starttls && !r.with[true].open && !slices.Contains(stricter, r.name) {
			t.Errorf("%s: not open with posttls-finger, and Postfix delivers: %s", r.name, r.with[true].talk.Why)
		}
	}
}

func (r *receiver) port() uint16 {
	if r.starttls {
		return 25
	}
	return 26
}

func word(yes bool, is, otherwise string) string {
	if yes {
		return is
	}
	return otherwise
}

// startPostfix starts a Postfix that has a route to each receiver, and returns its process.
func startPostfix(t *testing.T, dir, roots string, all []*receiver) *daemon.Process {
	t.Helper()
	etc, queue, data := filepath.Join(dir, "etc"), filepath.Join(dir, "queue"), filepath.Join(dir, "data")
	for _, d := range []string{etc, queue, data} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	out, err := exec.Command("chown", "postfix", data).CombinedOutput()
	require.NoError(t, err, string(out))
	var transport, tlsPolicy strings.Builder
	for _, r := range all {
		service := word(r.starttls, "smtp", "smtps26")
		fmt.Fprintf(&transport, "%s %s:[%s]:%d\n", r.domain, service, r.addr, r.port())
		fmt.Fprintf(&tlsPolicy, "[%s]:%d secure match=%s servername=%s\n", r.addr, r.port(), r.host, r.host)
	}
	services, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	require.NoError(t, err)
	master := regexp.MustCompile(`(?m)^smtp +inet .*$`).ReplaceAllString(string(services), "")
	master = regexp.MustCompile(`(?m)^(\S+ +(?:unix|unix-dgram) +\S+ +\S+ +)y `).ReplaceAllString(master, "${1}n ")
	master += "\nsmtps26 unix - - n - - smtp\n  -o smtp_tls_wrappermode=yes\n  -o smtp_tls_security_level=encrypt\n"
	for name, text := range map[string]string{
		"transport": transport.String(), "tls_policy": tlsPolicy.String(), "master.cf": master,
		"main.cf": "compatibility_level = 3.6\nmaillog_file = /dev/stdout\nmyhostname = sender.example\nmydestination =\ninet_interfaces = 127.0.0.1\n" +
			"alias_maps =\nqueue_directory = " + queue + "\ndata_directory = " + data + "\n" +
			"transport_maps = texthash:" + etc + "/transport\nsmtp_tls_policy_maps = texthash:" + etc + "/tls_policy\nsmtp_tls_CAfile = " + roots + "\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644))
	}
	p, err := daemon.Command{Path: "postfix", Arguments: []string{"-c", etc, "start-fg"}}.Start()
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Postfix's log:\n%s", p.Log)
		}
		_ = exec.Command("postfix", "-c", etc, "stop").Run()
		<-p.Ended()
	})
	_, _, err = p.Log.Wait(t.Context(), 0, func(line string) bool { return strings.Contains(line, "daemon started") })
	require.NoError(t, err)
	return p
}

// deliverToAll sends a mail to each receiver through Postfix. The function that it returns waits, and records which
// receivers Postfix reaches.
func deliverToAll(t *testing.T, p *daemon.Process, etc string, all []*receiver) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	for _, r := range all {
		mail := exec.CommandContext(ctx, "sendmail", "-C", etc, "-f", "sender@sender.example", "x@"+r.domain)
		mail.Stdin, mail.Env = strings.NewReader("Subject: corpus\n\n"), append(os.Environ(), "MAIL_CONFIG="+etc)
		out, err := mail.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	return func() {
		for _, r := range all {
			line, _, err := p.Log.Wait(ctx, 0, func(line string) bool {
				return strings.Contains(line, "to=<x@"+r.domain+">") && strings.Contains(line, "status=")
			})
			require.NoError(t, err, "%s\n%s", r.name, p.Log)
			r.sent = strings.Contains(line, "status=sent")
		}
	}
}
