package check_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/internal/check"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// lab has a DNS server, a CA, and addresses in 127.0.0.0/8 that all use the same two ports.
type lab struct {
	t           *testing.T
	dns         *dnstest.Server
	ca          *smtptest.CA
	smtp, smtps uint16
	next        byte
	options     check.Options
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dns: dnstest.New(t), ca: smtptest.NewCA(t), smtp: testkit.Port(t), smtps: testkit.Port(t), next: 10}
	stub := newStub(t, l.dns)
	l.options = check.Options{
		Servers: stub,
		Policy:  policy.Options{DANE: true, Port26: l.smtps, Transport: "smtps26"},
		Special: true, SMTPPort: l.smtp, Template: smtptls.Dialogue{Roots: l.ca.Roots},
	}
	return l
}

// cached returns a resolver with an empty cache.
func cached(s *stub.Stub) *dnscache.Cache { return dnscache.New(s, dnscache.Options{Epoch: s.Epoch}) }

// newStub returns a stub that has tested the server. Its connections are closed when the test ends.
func newStub(t *testing.T, server *dnstest.Server) *stub.Stub {
	t.Helper()
	s, err := stub.New(stub.Options{Servers: []string{server.Addr()}, Timeout: 5 * time.Second})
	require.NoError(t, err)
	s.SelfTest(t.Context())
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, s.Run(ended), context.Canceled)
	})
	return s
}

// addr returns an address that no other receiver uses.
func (l *lab) addr() string {
	l.next++
	return fmt.Sprintf("127.0.%d.%d", 100+l.smtp%100, l.next)
}

// domain publishes the MX hosts of a domain.
func (l *lab) domain(name string, a dnstest.Answer, hosts ...string) {
	for i, h := range hosts {
		a.Records = append(a.Records, fmt.Sprintf("MX %d %s.", 10*(i+1), h))
	}
	l.dns.Set(name, dns.TypeMX, a)
}

func signed() dnstest.Answer { return dnstest.Answer{Secure: true} }

// host publishes the address of a host, and returns it.
func (l *lab) host(name string) string {
	a := l.addr()
	l.dns.Set(name, dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A " + a}})
	l.dns.Set(name, dns.TypeAAAA, signed())
	return a
}

// receive starts a receiver at an address, on port 25 and, if implicit is set, on the port of implicit TLS.
func (l *lab) receive(addr string, b smtptest.Behaviour) *smtptest.Receiver {
	l.t.Helper()
	port := l.smtp
	if b.Implicit {
		port = l.smtps
	}
	return smtptest.Start(l.t, fmt.Sprintf("%s:%d", addr, port), b)
}

func (l *lab) cert(names ...string) *tls.Certificate {
	c := l.ca.Names(l.t, names...)
	return &c
}

func (l *lab) leaf(leaf smtptest.Leaf) *tls.Certificate {
	c := l.ca.Issue(l.t, leaf)
	return &c
}

// sound publishes a domain whose only host, of the name, keeps every promise.
func (l *lab) sound(domain, host string) string {
	l.domain(domain, signed(), host)
	a := l.host(host)
	l.receive(a, smtptest.Behaviour{Cert: l.cert(host)})
	l.receive(a, smtptest.Behaviour{Cert: l.cert(host), Implicit: true})
	l.dns.Set("_smtp._tls."+domain, dns.TypeTXT, dnstest.Answer{Records: []string{`TXT "v=TLSRPTv1; rua=mailto:tls@` + domain + `"`}})
	return a
}

func (l *lab) check(domain string) report.Report {
	l.t.Helper()
	return check.New(l.options).Check(l.t.Context(), domain)
}

// codes are the findings of a severity, in order, each once.
func codes(r report.Report, severities ...report.Severity) []string {
	found := []string{}
	for _, f := range r.Findings {
		if slices.Contains(severities, f.Severity) && !slices.Contains(found, f.Code) {
			found = append(found, f.Code)
		}
	}
	return found
}

func finding(t *testing.T, r report.Report, code string) report.Finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f report.Finding) bool { return f.Code == code })
	require.GreaterOrEqual(t, i, 0, "no %s: %v", code, r.Findings)
	return r.Findings[i]
}
