package check_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

func TestDNSFindings(t *testing.T) {
	t.Parallel()
	bogus := dnstest.Answer{Rcode: "SERVFAIL", EDE: 6}
	signature := func(end time.Time) string {
		return "RRSIG MX 13 2 300 " + end.UTC().Format("20060102150405") + " 20260101000000 1 example.com. c2ln"
	}
	for name, c := range map[string]struct {
		zone     func(l *lab)
		code     string
		severity report.Severity
		verdict  string
	}{
		"the MX RRset is bogus": {zone: func(l *lab) { l.dns.Set("example.com", dns.TypeMX, bogus) }, code: "mx-bogus", severity: report.Error, verdict: report.VerdictBroken},
		"the domain does not exist": {zone: func(l *lab) {
			l.dns.Set("example.com", dns.TypeMX, dnstest.Answer{Rcode: "NXDOMAIN", Secure: true})
		}, code: "no-such-domain", severity: report.Error, verdict: report.VerdictNoMail},
		"null MX": {zone: func(l *lab) {
			l.dns.Set("example.com", dns.TypeMX, dnstest.Answer{Records: []string{"MX 0 ."}})
		}, code: "null-mx", severity: report.Info, verdict: report.VerdictNoMail},
		"implicit MX":        {zone: func(l *lab) { l.domain("example.com", signed()); l.host("example.com") }, code: "mx-implicit", severity: report.Info, verdict: report.VerdictNone},
		"no prefix":          {zone: func(l *lab) { l.domain("example.com", signed(), "mx.example.com"); l.host("mx.example.com") }, code: "no-promise", severity: report.Info, verdict: report.VerdictNone},
		"a malformed prefix": {zone: func(l *lab) { l.domain("example.com", signed(), "smtps.example.com"); l.host("smtps.example.com") }, code: "prefix-malformed", severity: report.Warning, verdict: report.VerdictNone},
		"a name that is not a host name": {zone: func(l *lab) {
			l.dns.Set("example.com", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{`MX 10 a\032b.example.com.`}})
		}, code: "mx-host-invalid", severity: report.Warning, verdict: report.VerdictNone},
		"the domain is an alias": {zone: func(l *lab) {
			l.sound("example.org", mx)
			l.dns.Set("example.com", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"CNAME example.org.", "=example.org. MX 10 " + mx + "."}})
		}, code: "mx-alias", severity: report.Info, verdict: report.VerdictKept},
		"a host twice": {zone: func(l *lab) { l.sound("example.com", mx); l.domain("example.com", signed(), mx, mx) }, code: "mx-duplicate", severity: report.Warning, verdict: report.VerdictKept},
		"unsigned":     {zone: func(l *lab) { l.sound("example.com", mx); l.domain("example.com", dnstest.Answer{}, mx) }, code: "mx-unsigned", severity: report.Warning, verdict: report.VerdictKept},
		"a signature that ends tomorrow": {zone: func(l *lab) {
			l.sound("example.com", mx)
			l.domain("example.com", dnstest.Answer{Secure: true, Records: []string{signature(time.Now().AddDate(0, 0, 1))}}, mx)
		}, code: "mx-signature-expires", severity: report.Warning, verdict: report.VerdictKept},
		"a host that is an alias": {zone: func(l *lab) {
			addr := l.sound("example.com", mx)
			l.dns.Set(mx, dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"CNAME real.example.com.", "=real.example.com. A " + addr}})
		}, code: "mx-host-alias", severity: report.Warning, verdict: report.VerdictKept},
		"mixed": {zone: func(l *lab) {
			l.sound("example.com", mx)
			l.domain("example.com", signed(), mx, "mx.example.com")
			l.host("mx.example.com")
		}, code: "set-mixed", severity: report.Warning, verdict: report.VerdictKept},
		"too many hosts": {zone: func(l *lab) {
			l.sound("example.com", mx)
			hosts := []string{mx}
			for i := range 40 {
				hosts = append(hosts, fmt.Sprintf("mx%d.example.com", i))
			}
			l.domain("example.com", signed(), hosts...)
		}, code: "mx-too-many", severity: report.Warning, verdict: report.VerdictKept},
		"too many addresses in front": {zone: func(l *lab) {
			l.sound("example.com", mx)
			l.domain("example.com", signed(), "mx.example.com", mx)
			five := signed()
			for range 5 {
				five.Records = append(five.Records, "A "+l.addr())
			}
			l.host("mx.example.com")
			l.dns.Set("mx.example.com", dns.TypeA, five)
		}, code: "mx-address-limit", severity: report.Warning, verdict: report.VerdictKept},
		"no MX RRset, unsigned, but an address": {zone: func(l *lab) {
			l.dns.Set("example.com", dns.TypeMX, dnstest.Answer{Rcode: "NXDOMAIN"})
			l.host("example.com")
		}, code: "mx-implicit", severity: report.Info, verdict: report.VerdictNone},
		"no such domain, unsigned": {zone: func(l *lab) {
			for _, kind := range []dns.Type{dns.TypeMX, dns.TypeA, dns.TypeAAAA} {
				l.dns.Set("example.com", kind, dnstest.Answer{Rcode: "NXDOMAIN"})
			}
		}, code: "no-such-domain", severity: report.Error, verdict: report.VerdictNoMail},
		"too many addresses": {zone: func(l *lab) {
			addr := l.sound("example.com", mx)
			many := []string{"A " + addr}
			for i := range 20 {
				many = append(many, fmt.Sprintf("A 127.250.1.%d", i+1))
			}
			l.dns.Set(mx, dns.TypeA, dnstest.Answer{Records: many})
		}, code: "address-too-many", severity: report.Warning, verdict: report.VerdictBroken},
		"no address": {zone: func(l *lab) {
			l.domain("example.com", signed(), mx)
			l.dns.Set(mx, dns.TypeA, signed())
			l.dns.Set(mx, dns.TypeAAAA, signed())
		}, code: "host-no-address", severity: report.Error, verdict: report.VerdictBroken},
		"bogus addresses": {zone: func(l *lab) {
			l.domain("example.com", signed(), mx)
			l.dns.Set(mx, dns.TypeA, bogus)
			l.dns.Set(mx, dns.TypeAAAA, bogus)
		}, code: "host-address-bogus", severity: report.Error, verdict: report.VerdictBroken},
		"TLSRPT without an address": {zone: func(l *lab) {
			l.sound("example.com", mx)
			l.dns.Set("_smtp._tls.example.com", dns.TypeTXT, dnstest.Answer{Records: []string{`TXT "v=TLSRPTv1; x=y"`}})
		}, code: "tlsrpt-invalid", severity: report.Warning, verdict: report.VerdictKept},
		"no TLSRPT": {zone: func(l *lab) {
			l.sound("example.com", mx)
			l.dns.Set("_smtp._tls.example.com", dns.TypeTXT, dnstest.Answer{Rcode: "NXDOMAIN"})
		}, code: "publish-tlsrpt", severity: report.Hint, verdict: report.VerdictKept},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			c.zone(l)
			r := l.check("example.com")
			require.Equal(t, c.severity, finding(t, r, c.code).Severity)
			require.Equal(t, c.verdict, r.Verdict, "%v", r.Findings)
		})
	}
}
