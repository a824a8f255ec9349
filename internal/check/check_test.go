package check_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/testkit"
	"github.com/policyd/policyd/socketmap"
)

const mx = "smtps-a.example.com"

func TestWeakKeysAndCiphersAreNamed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{mx}, NotAfter: time.Now().AddDate(0, 0, 90)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	require.NoError(t, err)
	l.domain("example.com", signed(), mx)
	l.receive(l.host(mx), smtptest.Behaviour{
		Cert:    &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		Ciphers: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, MaxVersion: tls.VersionTLS12,
	})
	l.options.Port25Only = true
	r := l.check("example.com")
	require.Equal(t, []string{"certificate-weak", "cipher-weak"}, codes(r, report.Warning), "%v", r.Findings)
}

func TestSoundDomain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	addr := l.sound("example.com", mx)
	r := l.check("Example.COM.")
	require.Equal(t, "Example.COM.", r.Input)
	require.Equal(t, "example.com", r.Domain)
	require.Equal(t, report.VerdictKept, r.Verdict, "%v", r.Findings)
	require.Zero(t, r.Exit())
	require.Equal(t, "secure", r.DNSSEC)
	require.Equal(t, "all", r.Set)
	require.Equal(t, []string{"promise-kept"}, codes(r, report.Error, report.Warning, report.Info, report.Hint))
	require.Equal(t, socketmap.Reply{Status: socketmap.StatusOK, Text: "secure match=" + mx + " servername=hostname"}, r.TLSPolicy)
	require.Equal(t, socketmap.Reply{Status: socketmap.StatusOK, Text: fmt.Sprintf("smtps26:example.com:%d", l.smtps)}, r.Transport)
	require.Equal(t, "prefix", r.Source)
	require.Equal(t, "found", r.TLSRPT.State)
	require.Len(t, r.MX, 1)
	require.Equal(t, []string{addr}, r.MX[0].Addresses)
	require.Len(t, r.MX[0].Connections, 2)
	for i, c := range r.MX[0].Connections {
		require.Equal(t, report.ResultOK, c.Result, c.Why)
		require.Equal(t, i == 1, c.Implicit)
		require.Equal(t, "TLS 1.3", c.Protocol)
		require.Equal(t, mx, c.Certificate.Matched)
		require.True(t, c.Certificate.Trusted)
		require.Equal(t, []string{mx, "Lab Root"}, c.Certificate.Chain)
		require.Contains(t, []int{89, 90}, c.Certificate.DaysLeft)
		require.Equal(t, "ECDSA P-256", c.Certificate.Key)
		require.Empty(t, c.Dialogue)
	}
	require.Equal(t, []string{
		fmt.Sprintf(`posttls-finger -c -l secure -F /etc/ssl/certs/ca-certificates.crt -s %s "[%s]:%d" %s`, mx, addr, l.smtp, mx),
		fmt.Sprintf(`posttls-finger -c -w -l secure -F /etc/ssl/certs/ca-certificates.crt -s %s "[%s]:%d" %s`, mx, addr, l.smtps, mx),
	}, r.Commands)
}

// Every way in which a receiver can break its promise, on each of its ports.
func TestBrokenReceivers(t *testing.T) {
	t.Parallel()
	type cases map[string]struct {
		code string
		b    func(l *lab) *smtptest.Behaviour // nil: no listener
	}
	with := func(b smtptest.Behaviour) func(*lab) *smtptest.Behaviour {
		return func(l *lab) *smtptest.Behaviour {
			b.Cert = l.cert(mx)
			return &b
		}
	}
	leaf := func(leaf smtptest.Leaf) func(*lab) *smtptest.Behaviour {
		return func(l *lab) *smtptest.Behaviour { return &smtptest.Behaviour{Cert: l.leaf(leaf)} }
	}
	both := cases{
		"nobody listens":             {"refused", func(*lab) *smtptest.Behaviour { return nil }},
		"the banner refuses":         {"banner", with(smtptest.Behaviour{Banner: "554 no"})},
		"EHLO is refused":            {"ehlo", with(smtptest.Behaviour{EHLO: "502 what?"})},
		"the handshake is dropped":   {"tls-handshake", with(smtptest.Behaviour{Drop: "handshake"})},
		"TLS 1.1":                    {"tls-handshake", with(smtptest.Behaviour{MaxVersion: tls.VersionTLS11})},
		"self-signed":                {"certificate-chain", leaf(smtptest.Leaf{Names: []string{mx}, SelfSigned: true})},
		"for the name without":       {"certificate-name", leaf(smtptest.Leaf{Names: []string{"a.example.com"}})},
		"the common name only":       {"certificate-name", leaf(smtptest.Leaf{CommonName: mx})},
		"a certificate that expired": {"certificate-expired", leaf(smtptest.Leaf{Names: []string{mx}, NotBefore: time.Now().AddDate(0, 0, -9), NotAfter: time.Now().AddDate(0, 0, -1)})},
	}
	only := map[bool]cases{
		false: {
			"no STARTTLS":      {"starttls-missing", func(*lab) *smtptest.Behaviour { return &smtptest.Behaviour{} }},
			"STARTTLS refused": {"starttls-refused", with(smtptest.Behaviour{STARTTLS: "454 not now"})},
		},
		true: {
			"in the clear": {"plaintext", func(*lab) *smtptest.Behaviour { return &smtptest.Behaviour{} }},
		},
	}
	for _, implicit := range []bool{false, true} {
		for _, set := range []cases{both, only[implicit]} {
			for name, c := range set {
				port := map[bool]string{false: "port25-", true: "port26-"}[implicit]
				t.Run(port+name, func(t *testing.T) {
					t.Parallel()
					l := newLab(t)
					l.domain("example.com", signed(), mx)
					addr := l.host(mx)
					good := smtptest.Behaviour{Cert: l.cert(mx), Implicit: !implicit}
					l.receive(addr, good)
					if b := c.b(l); b != nil {
						// "In the clear" is a port of implicit TLS that is not.
						r := *b
						r.Implicit = implicit && c.code != "plaintext"
						if r.Implicit || !implicit {
							l.receive(addr, r)
						} else {
							smtptest.Start(t, fmt.Sprintf("%s:%d", addr, l.smtps), r)
						}
					}
					r := l.check("example.com")
					require.Equal(t, []string{port + c.code}, codes(r, report.Error), "%v", r.Findings)
					require.Equal(t, report.VerdictBroken, r.Verdict)
					require.Equal(t, 1, r.Exit())
					f := finding(t, r, port+c.code)
					require.Equal(t, mx, f.Host)
					require.Equal(t, []string{addr}, f.Addresses)
					if implicit {
						require.Equal(t, socketmap.StatusNotFound, r.Transport.Status, "no route to it")
						require.Equal(t, l.smtps, f.Port)
					}
					require.NotContains(t, codes(r, report.Info), "promise-kept")
				})
			}
		}
	}
}

// "Could not test" is never "failed".
func TestAHostThatCannotBeTestedIsNotBroken(t *testing.T) {
	t.Parallel()
	t.Run("the MX lookup fails", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.dns.Set("example.com", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL"})
		r := l.check("example.com")
		require.Empty(t, codes(r, report.Error))
		require.True(t, finding(t, r, "mx-lookup-failed").Untested)
		require.Equal(t, 3, r.Exit())
		require.Equal(t, socketmap.StatusTemp, r.TLSPolicy.Status)
		require.Equal(t, "indeterminate", r.DNSSEC)
	})
	t.Run("the addresses cannot be looked up", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.domain("example.com", signed(), mx)
		l.dns.Set(mx, dns.TypeA, dnstest.Answer{Rcode: "SERVFAIL"})
		l.dns.Set(mx, dns.TypeAAAA, dnstest.Answer{Rcode: "SERVFAIL"})
		r := l.check("example.com")
		require.Empty(t, codes(r, report.Error))
		require.True(t, finding(t, r, "host-lookup-failed").Untested)
		require.Equal(t, report.VerdictUntested, r.Verdict)
	})
	t.Run("the addresses of one host of two cannot be looked up", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.sound("example.com", mx)
		other := "smtps-b.example.com"
		l.domain("example.com", signed(), mx, other)
		l.dns.Set(other, dns.TypeA, dnstest.Answer{Rcode: "SERVFAIL"})
		l.dns.Set(other, dns.TypeAAAA, dnstest.Answer{Rcode: "SERVFAIL"})
		r := l.check("example.com")
		require.Equal(t, socketmap.StatusNotFound, r.Transport.Status, "the host may be the sender itself")
	})
	t.Run("no address can be reached from here", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.domain("example.com", signed(), mx)
		l.dns.Set(mx, dns.TypeA, dnstest.Answer{Records: []string{"A 255.255.255.255"}})
		l.dns.Set(mx, dns.TypeAAAA, signed())
		r := l.check("example.com")
		require.Empty(t, codes(r, report.Error), "%v", r.Findings)
		require.True(t, finding(t, r, "port25-untested").Untested)
		require.True(t, finding(t, r, "port26-untested").Untested)
		require.Equal(t, 3, r.Exit())
	})
	t.Run("no address can be reached, and the host has TLSA records in place of a prefix", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.domain("example.com", signed(), "mx.example.com")
		l.dns.Set("mx.example.com", dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A 255.255.255.255"}})
		l.dns.Set("mx.example.com", dns.TypeAAAA, signed())
		r := l.check("example.com")
		require.Equal(t, report.VerdictNone, r.Verdict, "there is nothing to test")
		require.Zero(t, r.Exit())
		l.dns.Set("_25._tcp.mx.example.com", dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{"TLSA 3 1 1 " + strings.Repeat("ab", 32)}})
		r = l.check("example.com")
		require.Equal(t, "usable", r.MX[0].TLSA.State)
		require.Equal(t, report.VerdictUntested, r.Verdict)
		require.Equal(t, 3, r.Exit())
	})
	t.Run("one address of two can", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		addr := l.sound("example.com", mx)
		l.dns.Set(mx, dns.TypeA, dnstest.Answer{Records: []string{"A " + addr, "A 255.255.255.255"}})
		r := l.check("example.com")
		require.Empty(t, codes(r, report.Error), "%v", r.Findings)
		require.True(t, finding(t, r, "address-unreachable").Untested)
		require.Zero(t, r.Exit())
	})
	t.Run("another family was asked for", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.sound("example.com", mx)
		l.options.IPv6 = true
		r := l.check("example.com")
		require.Equal(t, 3, r.Exit())
		require.Equal(t, report.ResultSkipped, r.MX[0].Connections[0].Result)
		require.Empty(t, r.Commands)
		l.options.IPv6, l.options.IPv4 = false, true
		require.Zero(t, l.check("example.com").Exit())
	})
	t.Run("the resolver does not validate", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.sound("example.com", mx)
		l.dns.SetValidating(false)
		stub := newStub(t, l.dns)
		l.options.Servers = stub
		r := l.check("example.com")
		require.True(t, finding(t, r, "resolver-not-validating").Untested)
		require.NotContains(t, codes(r, report.Warning), "mx-unsigned", "nobody knows")
		require.Equal(t, report.VerdictKept, r.Verdict)
	})
}

func TestHostWithoutAPrefixHasPromisedNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.domain("example.com", signed(), "mx.example.com")
	l.receive(l.host("mx.example.com"), smtptest.Behaviour{})
	r := l.check("example.com")
	require.Equal(t, report.Info, finding(t, r, "port25-starttls-missing").Severity)
	require.Equal(t, report.VerdictNone, r.Verdict)
	require.Zero(t, r.Exit())
	require.Empty(t, codes(r, report.Hint))
}

// The domain is then its own mail host, and its name says nothing about mail, even if it resembles that of an MX host.
func TestAnImplicitMXHasPromisedNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.domain(mx, signed())
	l.receive(l.host(mx), smtptest.Behaviour{})
	r := l.check(mx)
	require.Equal(t, report.Info, finding(t, r, "port25-starttls-missing").Severity)
	require.Equal(t, report.VerdictNone, r.Verdict)
	require.Equal(t, "none", r.MX[0].Prefix)
	require.NotContains(t, codes(r, report.Warning), "prefix-malformed")
	l.dns.Set(mx, dns.TypeA, dnstest.Answer{Rcode: "SERVFAIL"})
	l.dns.Set(mx, dns.TypeAAAA, dnstest.Answer{Rcode: "SERVFAIL"})
	r = l.check(mx)
	require.True(t, finding(t, r, "host-lookup-failed").Untested)
	require.Equal(t, socketmap.StatusTemp, r.TLSPolicy.Status)
	require.Equal(t, report.VerdictUntested, r.Verdict, "it may have TLSA records, and mail waits")
}

func TestHintForAHostThatCouldPromise(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.domain("example.com", signed(), "mx.example.com")
	addr := l.host("mx.example.com")
	l.receive(addr, smtptest.Behaviour{Cert: l.cert("mx.example.com")})
	require.Equal(t, []string{
		"example.com. IN MX 10 starttls-mx.example.com.",
		"starttls-mx.example.com. IN A " + addr,
	}, finding(t, l.check("example.com"), "publish-prefix").Zone)
}

// Without TLSA records the new name would lose the DANE protection of the old one.
func TestHintForAHostThatCouldPromiseAndHasTLSARecords(t *testing.T) {
	t.Parallel()
	for _, correct := range []bool{true, false} {
		l := newLab(t)
		l.domain("example.com", signed(), "mx.example.com")
		addr, cert := l.host("mx.example.com"), l.cert("mx.example.com")
		l.receive(addr, smtptest.Behaviour{Cert: cert})
		spki := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
		if !correct {
			spki[0]++
		}
		record := "3 1 1 " + hex.EncodeToString(spki[:])
		l.dns.Set("_25._tcp.mx.example.com", dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{"TLSA " + record}})
		r := l.check("example.com")
		if !correct {
			require.Equal(t, []string{"dane-mismatch"}, codes(r, report.Error))
			require.Empty(t, codes(r, report.Hint), "the record must be corrected first")
			continue
		}
		require.Equal(t, []string{
			"example.com. IN MX 10 starttls-mx.example.com.",
			"starttls-mx.example.com. IN A " + addr,
			"_25._tcp.starttls-mx.example.com. IN TLSA " + record,
		}, finding(t, r, "publish-prefix").Zone)
	}
}

func TestSilenceNeedsAWitness(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	addr := l.sound("example.com", mx)
	hole := testkit.BlackHole(t, netip.AddrPortFrom(netip.MustParseAddr(l.addr()), l.smtps)).Addr().String()
	l.domain("silent.example", signed(), "smtps-b.silent.example")
	l.dns.Set("smtps-b.silent.example", dns.TypeA, dnstest.Answer{Records: []string{"A " + hole}})
	l.dns.Set("smtps-b.silent.example", dns.TypeAAAA, signed())
	l.receive(hole, smtptest.Behaviour{Cert: l.cert("smtps-b.silent.example")})
	l.options.Template.Timeout = 2 * time.Second
	c := check.New(l.options)

	r := c.Check(t.Context(), "silent.example")
	require.True(t, finding(t, r, "port26-untested").Untested)
	require.Empty(t, codes(r, report.Error))
	require.Equal(t, 3, r.Exit())

	require.Zero(t, c.Check(t.Context(), "example.com").Exit())
	r = c.Check(t.Context(), "silent.example")
	require.Equal(t, []string{"port26-timeout"}, codes(r, report.Error), "now it is known that the port is not filtered here")
	require.Equal(t, 1, r.Exit())

	l.dns.Set("smtps-c.two.example", dns.TypeA, dnstest.Answer{Records: []string{"A " + addr, "A " + hole}})
	l.dns.Set("smtps-c.two.example", dns.TypeAAAA, signed())
	l.domain("two.example", signed(), "smtps-c.two.example")
	r = c.Check(t.Context(), "two.example")
	require.Equal(t, []string{hole}, finding(t, r, "address-silent").Addresses)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	t.Run("--no-connect", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.domain("example.com", signed(), mx)
		r25 := l.receive(l.host(mx), smtptest.Behaviour{})
		l.dns.Set("_mta-sts.example.com", dns.TypeTXT, dnstest.Answer{Records: []string{`TXT "v=STSv1; id=1;"`}})
		l.options.NoConnect = true
		r := l.check("example.com")
		require.Equal(t, report.VerdictPromised, r.Verdict)
		require.Zero(t, r.Exit())
		require.Zero(t, r25.Connections())
		require.Equal(t, "announced", r.MTASTS.State)
		require.Equal(t, socketmap.StatusOK, r.TLSPolicy.Status)
		require.Contains(t, codes(r, report.Info), "tested-partly")
		require.Empty(t, r.MX[0].Connections)
	})
	t.Run("--port25-only", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.domain("example.com", signed(), mx)
		l.receive(l.host(mx), smtptest.Behaviour{Cert: l.cert(mx)})
		l.options.Port25Only = true
		r := l.check("example.com")
		require.Equal(t, report.VerdictKept, r.Verdict)
		require.Len(t, r.MX[0].Connections, 1)
		require.Contains(t, codes(r, report.Info), "tested-partly")
	})
	t.Run("--at", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.sound("example.com", mx)
		l.options.Template.At = time.Now().AddDate(0, 0, 80)
		r := l.check("example.com")
		require.Equal(t, []string{"certificate-expires-soon"}, codes(r, report.Error, report.Warning))
		require.Contains(t, []int{9, 10}, r.MX[0].Connections[0].Certificate.DaysLeft)
		l.options.Template.At = time.Now().AddDate(0, 0, 91)
		r = l.check("example.com")
		require.Equal(t, []string{"port25-certificate-expired", "port26-certificate-expired"}, codes(r, report.Error))
		require.Equal(t, socketmap.StatusNotFound, r.Transport.Status)
	})
	t.Run("-v", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.sound("example.com", mx)
		l.options.Verbose = true
		r := l.check("example.com")
		said := r.MX[0].Connections[0].Dialogue
		require.Contains(t, said, "S: 220 receiver")
		require.Contains(t, said, "C: STARTTLS")
		require.Contains(t, said, "C: QUIT")
	})
	t.Run("a careful one does not connect to special-purpose addresses", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.domain("example.com", signed(), mx)
		r25 := l.receive(l.host(mx), smtptest.Behaviour{Cert: l.cert(mx)})
		l.options.Special, l.options.Careful = false, true
		r := l.check("example.com")
		require.Contains(t, codes(r, report.Warning), "address-special")
		require.Equal(t, 3, r.Exit())
		require.Zero(t, r25.Connections())
	})
	t.Run("without care it connects to them and has findings about them", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.sound("example.com", mx)
		l.options.Special = false
		r := l.check("example.com")
		require.Equal(t, []string{"address-special"}, codes(r, report.Error, report.Warning))
		require.Equal(t, report.VerdictKept, r.Verdict)
		require.Equal(t, socketmap.StatusNotFound, r.Transport.Status, "the prober would not have connected")
	})
	t.Run("an invalid domain name", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		r := l.check("no domain\x1b[31m")
		require.Equal(t, []string{"not-a-domain"}, codes(r, report.Error))
	})
	t.Run("a U-label", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.sound("xn--mnchen-3ya.example", "smtps-a.xn--mnchen-3ya.example")
		r := l.check("münchen.example")
		require.Equal(t, "xn--mnchen-3ya.example", r.Domain)
		require.Equal(t, report.VerdictKept, r.Verdict)
	})
}

func TestPolite(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.domain("example.com", signed(), mx, "starttls-b.example.com")
	addr := l.host(mx)
	l.dns.Set("starttls-b.example.com", dns.TypeA, dnstest.Answer{Records: []string{"A " + addr}})
	l.dns.Set("starttls-b.example.com", dns.TypeAAAA, signed())
	cert := l.cert(mx, "starttls-b.example.com")
	r25 := l.receive(addr, smtptest.Behaviour{Cert: cert})
	r26 := l.receive(addr, smtptest.Behaviour{Cert: cert, Implicit: true})
	c := check.New(l.options)
	for range 3 {
		require.Zero(t, c.Check(t.Context(), "example.com").Exit())
	}
	require.Equal(t, 2, r25.Connections(), "one per name, however many domains ask")
	require.Equal(t, 1, r26.Connections())
	for _, said := range append(r25.Commands(), r26.Commands()...) {
		require.Regexp(t, `^(EHLO |STARTTLS$|QUIT$)`, said)
	}
	require.Equal(t, 1, r25.Most(), "one connection at a time")
}

// A site routes no mail while an address of an MX host may be one of its own.
func TestNoRouteWhereAnAddressCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.sound("example.com", "smtps-mx.example.com")
	l.dns.Set("smtps-mx.example.com", dns.TypeAAAA, dnstest.Answer{Rcode: "SERVFAIL"})
	r := l.check("example.com")
	require.Equal(t, socketmap.StatusNotFound, r.Transport.Status)
	require.Equal(t, []string{"no route, in doubt: an address of smtps-mx.example.com could not be looked up: SERVFAIL"}, r.WhyTransport)
}

// Both maps answer NOTFOUND for a domain that does not exist: Postfix notices that by itself, and the mail bounces.
func TestAnswersForADomainThatDoesNotExist(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.check("nowhere.example")
	require.Equal(t, "nxdomain", r.RRset.State)
	require.Equal(t, socketmap.Reply{Status: socketmap.StatusNotFound}, r.TLSPolicy)
	require.Equal(t, socketmap.Reply{Status: socketmap.StatusNotFound}, r.Transport)
	require.Equal(t, []string{"the domain does not exist"}, r.Why)
	require.Equal(t, "absent", r.TLSRPT.State, "a name that does not exist has no records below it (RFC 8020)")
}
