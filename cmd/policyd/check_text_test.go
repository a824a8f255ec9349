package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// soundReport is the report about a sound domain on the Internet.
func soundReport() report.Report {
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	until := at.AddDate(0, 0, 12)
	certificate := func(days int) *report.Certificate {
		return &report.Certificate{
			Subject: "CN=smtps-a.example.com", Issuer: "CN=R12,O=Let's Encrypt,C=US",
			Names: []string{"smtps-a.example.com"}, Matched: "smtps-a.example.com", Trusted: true,
			Chain:     []string{"smtps-a.example.com", "R12", "ISRG Root X1"},
			NotBefore: at.AddDate(0, 0, days-90), NotAfter: at.AddDate(0, 0, days), DaysLeft: days,
			Key: "ECDSA P-256", Signature: "SHA256-RSA",
		}
	}
	connection := func(address string, port uint16) report.Connection {
		return report.Connection{
			Address: address, Port: port, Implicit: port == 26, Result: report.ResultOK, Banner: "220 smtps-a.example.com ESMTP",
			Protocol: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", Certificate: certificate(72),
		}
	}
	yes := true
	return report.Report{
		Input: "example.com", Domain: "example.com", Verdict: report.VerdictKept, Checked: at, At: at,
		Resolver: report.Resolver{Servers: []string{"127.0.0.1:53"}, Result: "validating"},
		DNSSEC:   "secure", RRset: report.RRset{State: "found", TTL: 3600, SignatureExpires: &until}, Set: "all",
		MX: []report.Host{{
			Host: "smtps-a.example.com", Preference: 10, Prefix: "smtps", Valid: true, A: "secure", AAAA: "secure",
			Addresses: []string{"198.51.100.25", "2001:db8:1234:5678:9abc:def0:1234:5678"},
			TLSA:      report.TLSA{State: "usable", Records: []string{"3 1 1 " + strings.Repeat("ab", 32)}, Matches: &yes},
			TLSA26:    &report.TLSA{State: "absent"}, MTASTS: &yes,
			Connections: []report.Connection{
				connection("198.51.100.25", 25), connection("198.51.100.25", 26),
				connection("2001:db8:1234:5678:9abc:def0:1234:5678", 25), connection("2001:db8:1234:5678:9abc:def0:1234:5678", 26),
			},
		}},
		TLSPolicy: socketmap.Reply{Status: socketmap.StatusOK, Text: "dane-only"}, Transport: socketmap.Reply{Status: socketmap.StatusNotFound}, Source: "dane",
		Why: []string{"DANE"}, WhyTransport: []string{"DANE"},
		MTASTS: report.STSPolicy{State: "found", Mode: "enforce", ID: "20261101", MX: []string{"*.example.com"}},
		TLSRPT: report.TLSRPT{State: "found", Record: "v=TLSRPTv1; rua=mailto:tls-reports@example.com"},
		Findings: []report.Finding{
			{Code: "dane-missing-26", Severity: report.Warning, Host: "smtps-a.example.com", Port: 26, Text: "there are TLSA records for port 25 only: senders that support DANE stay there"},
			{Code: "promise-kept", Severity: report.Info, Text: "the promise is kept at every address that was tested"},
			{Code: "publish-tlsa-26", Severity: report.Hint, Host: "smtps-a.example.com", Port: 26, Text: "publish TLSA records for the port of implicit TLS as well", Zone: []string{"_26._tcp.smtps-a.example.com. IN TLSA 3 1 1 " + strings.Repeat("ab", 32)}},
		},
		Commands: []string{`posttls-finger -c -l secure -F /etc/ssl/certs/ca-certificates.crt -s smtps-a.example.com "[198.51.100.25]:25" smtps-a.example.com`},
	}
}

// brokenReport is a domain with many faults.
func brokenReport() report.Report {
	r := soundReport()
	r.Verdict, r.Set, r.DNSSEC, r.RRset.SignatureExpires = report.VerdictBroken, "mixed", "insecure", nil
	r.Resolver = report.Resolver{Servers: []string{"127.0.0.53:53"}, Result: "not trusted", Reason: "not every server is a resolver on loopback"}
	r.MTASTS, r.TLSRPT = report.STSPolicy{State: "failed", Why: "sts-policy-fetch-error: 404 Not Found"}, report.TLSRPT{State: "absent"}
	r.TLSPolicy = socketmap.Reply{Status: socketmap.StatusOK, Text: "secure match=smtps-a.example.com servername=hostname"}
	r.Source = "prefix"
	h := &r.MX[0]
	h.A, h.AAAA, h.TLSA, h.MTASTS = "insecure", "insecure", report.TLSA{State: "absent"}, nil
	name := *h.Connections[1].Certificate
	name.Names, name.Matched = []string{"mx.example.com", "www.example.com"}, ""
	h.Connections[0].Result, h.Connections[0].Step, h.Connections[0].Cause, h.Connections[0].STARTTLS = report.ResultFailed, "STARTTLS", "plaintext", "missing"
	h.Connections[0].Protocol, h.Connections[0].Cipher, h.Connections[0].Certificate = "", "", nil
	h.Connections[1].Result, h.Connections[1].Step, h.Connections[1].Cause, h.Connections[1].Certificate = report.ResultFailed, "certificate", "certificate name", &name
	for i := 2; i < 4; i++ {
		c := &h.Connections[i]
		c.Result, c.Step, c.Why, c.Protocol, c.Certificate = report.ResultUntested, "connect", "connect: network is unreachable", "", nil
	}
	r.MX = append(r.MX, report.Host{
		Host: "mx2.example.net", Preference: 20, Prefix: "none", Valid: true, A: "indeterminate", AAAA: "insecure", Alias: "real.example.net",
		AddressError: "A: SERVFAIL", Addresses: []string{}, TLSA: report.TLSA{State: "unreachable"}, Connections: []report.Connection{},
	})
	r.Findings = []report.Finding{
		{Code: "port25-starttls-missing", Severity: report.Error, Host: "smtps-a.example.com", Addresses: []string{"198.51.100.25"}, Port: 25, Text: "EHLO does not offer STARTTLS"},
		{Code: "port26-certificate-name", Severity: report.Error, Host: "smtps-a.example.com", Addresses: []string{"198.51.100.25"}, Port: 26, Text: "the certificate is for mx.example.com, www.example.com, not for smtps-a.example.com"},
		{Code: "set-mixed", Severity: report.Warning, Text: "only some MX hosts carry a prefix: mail goes through those alone, or waits"},
		{Code: "address-unreachable", Severity: report.Info, Untested: true, Host: "smtps-a.example.com", Addresses: []string{"2001:db8:1234:5678:9abc:def0:1234:5678"}, Port: 25, Text: "this address could not be tested from here: connect: network is unreachable"},
		{Code: "publish-tlsrpt", Severity: report.Hint, Text: "have senders report failures of TLS", Zone: []string{`_smtp._tls.example.com. IN TXT "v=TLSRPTv1; rua=mailto:tls-reports@example.com"`}},
	}
	return r
}

func TestScreens(t *testing.T) {
	t.Parallel()
	none := soundReport()
	none.Verdict, none.Domain, none.Input = report.VerdictUntested, "example.org", "example.org"
	none.DNSSEC, none.RRset, none.MX, none.Set = "indeterminate", report.RRset{State: "failed", Error: "127.0.0.1:53: timed out"}, []report.Host{}, "none"
	none.TLSPolicy, none.Transport, none.Commands = socketmap.Reply{Status: socketmap.StatusTemp, Text: "MX lookup for example.org failed: timed out"}, socketmap.Reply{Status: socketmap.StatusNotFound}, nil
	none.Findings = []report.Finding{{Code: "mx-lookup-failed", Severity: report.Info, Untested: true, Text: "the MX RRset could not be looked up: 127.0.0.1:53: timed out"}}
	verbose := soundReport()
	verbose.MX[0].Connections = verbose.MX[0].Connections[:1]
	verbose.MX[0].Connections[0].Dialogue = []string{"S: 220 smtps-a.example.com ESMTP", "C: EHLO [198.51.100.1]"}
	for name, c := range map[string]struct {
		report          report.Report
		colour, verbose bool
	}{
		"sound.txt":    {report: soundReport()},
		"broken.txt":   {report: brokenReport()},
		"untested.txt": {report: none},
		"verbose.txt":  {report: verbose, verbose: true},
		"colour.txt":   {report: brokenReport(), colour: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shown := shownReport(c.report, c.colour, c.verbose)
			golden(t, "check/"+name, shown)
			for line := range strings.Lines(shown) {
				whole := strings.Contains(line, "posttls-finger") || strings.Contains(line, " IN ")
				if line = strings.TrimRight(line, "\n"); !whole && !c.colour {
					require.LessOrEqual(t, len(line), 80, line)
				}
			}
		})
	}
}

// shownReport is a report as policyd check shows it.
func shownReport(r report.Report, colour, verbose bool) string {
	s := &screen{colour: text.Palette(colour)}
	s.report(&r, verbose)
	return s.String()
}

// The table names the step at which a dialogue ended, and what Postfix made of the host.
// Nothing is looked up for a domain that accepts no mail, which must not look like a failure.
func TestScreenOfADomainThatAcceptsNoMail(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"null", "nxdomain"} {
		r := soundReport()
		r.Verdict, r.RRset.State, r.MX = report.VerdictNoMail, state, nil
		r.MTASTS, r.TLSRPT = report.STSPolicy{State: "unknown"}, report.TLSRPT{State: "absent"}
		shown := shownReport(r, false, false)
		require.NotContains(t, shown, "unknown")
		require.NotContains(t, shown, "TLSRPT")
	}
}

func TestReportTable(t *testing.T) {
	t.Parallel()
	r := report.Report{Input: "no domain\x1b[31m", MX: []report.Host{{Connections: []report.Connection{
		{Address: "192.0.2.1", Port: 25, Result: report.ResultFailed, Step: "EHLO", Cause: "banner"},
		{Address: "192.0.2.1", Port: 26, Result: report.ResultFailed, Step: "banner", Cause: "banner", Protocol: "TLS 1.3"},
		{Address: "192.0.2.2", Port: 26, Result: report.ResultUntested, Step: "TLS handshake", Cause: "not judged", Postfix: &smtptls.Opinion{Verdict: smtptls.NoVerdict}},
	}}}}
	shown := shownReport(r, false, false)
	require.NotContains(t, shown, "\x1b")
	require.Regexp(t, `RESULT +POSTFIX\n`, shown)
	require.Regexp(t, `192.0.2.1 +25 +- +- +EHLO +-\n`, shown)
	require.Regexp(t, `192.0.2.1 +26 +1\.3 +- +banner +-\n`, shown)
	require.Regexp(t, `192.0.2.2 +26 +- +- +not judged +no verdict\n`, shown)
}
