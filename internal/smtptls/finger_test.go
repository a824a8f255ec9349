package smtptls

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const fingerHost = "smtps-a.example.com"

func fingerDialogue() Dialogue {
	return Dialogue{Host: fingerHost, Addr: netip.MustParseAddrPort("192.0.2.1:26"), Implicit: true, Whole: 40 * time.Second}
}

// script is a posttls-finger of this test.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "posttls-finger")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700))
	return path
}

const (
	verifiedLine = "posttls-finger: Verified TLS connection established to 192.0.2.1[192.0.2.1]:26: TLSv1.3 with cipher X\n"
	where26      = "192.0.2.1[192.0.2.1]:26"
)

func TestOpinion(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddrPort("192.0.2.1:26")
	for name, c := range map[string]struct {
		output  string
		verdict PostfixVerdict
		why     string
	}{
		"verified":                           {verifiedLine, Verified, "Verified TLS connection"},
		"untrusted":                          {"posttls-finger: certificate verification failed for " + where26 + ": untrusted issuer /CN=Lab\nposttls-finger: Untrusted TLS connection established to " + where26 + ": TLSv1.3\n", Rejected, "untrusted issuer /CN=Lab"},
		"another name":                       {"posttls-finger: server certificate verification failed for " + where26 + ": num=62:hostname mismatch\nposttls-finger: Untrusted TLS connection established to " + where26 + ": TLSv1.3\n", Rejected, "hostname mismatch"},
		"trusted, and the name is not":       {"posttls-finger: Trusted TLS connection established to " + where26 + ": TLSv1.3\n", Rejected, "not verified"},
		"a handshake that fails":             {"posttls-finger: SSL_connect error to " + where26 + ": -1\nposttls-finger: warning: TLS library problem: error:0A000410:alert handshake failure\n", Rejected, "alert handshake failure"},
		"a handshake that is cut":            {"posttls-finger: SSL_connect error to " + where26 + ": Connection reset by peer\n", NoVerdict, "Connection reset by peer"},
		"no connection":                      {"posttls-finger: Failed to establish session to [192.0.2.1]:26 via 192.0.2.1: connect to " + where26 + ": Connection refused\n", NoVerdict, "Connection refused"},
		"roots that cannot be read":          {"posttls-finger: cannot load Certification Authority data, CAfile=\"/x\": disabling TLS support\n", NoVerdict, "cannot load"},
		"a banner that refuses":              {verifiedLine + "posttls-finger: SMTP service not available: 421 busy\n", GaveUp, "421 busy"},
		"EHLO refused":                       {verifiedLine + "posttls-finger: EHLO rejected: 503 no\n", GaveUp, "503 no"},
		"nothing":                            {"", NoVerdict, "no result"},
		"a verdict about another address":    {"posttls-finger: Verified TLS connection established to 192.0.2.9[192.0.2.9]:26: TLSv1.3\n", NoVerdict, "no result"},
		"a server that imitates a verdict":   {"posttls-finger: < 220 Verified TLS connection established to " + where26 + ": TLSv1.3\n", NoVerdict, "no result"},
		"a subject that imitates a verdict":  {"posttls-finger: " + where26 + ": subject_CN=Verified TLS connection established to " + where26 + ": x\n", NoVerdict, "no result"},
		"a banner that imitates a verdict":   {"posttls-finger: Untrusted TLS connection established to " + where26 + ": x\nposttls-finger: SMTP service not available: 421 Verified TLS connection established to " + where26 + ": \n", Rejected, "not verified"},
		"a line with control characters":     {verifiedLine + "posttls-finger: EHLO rejected: 503 \x1b[31m\n", GaveUp, "503 ?[31m"},
		"a connection lost within the reply": {verifiedLine + "posttls-finger: lost connection while sending EHLO\n", GaveUp, "lost connection"},
	} {
		o := opinion(c.output, addr)
		require.Equal(t, c.verdict, o.Verdict, name)
		require.Contains(t, o.Why, c.why, name)
	}
}

func TestFingerIsRunWithoutAShellAndWithTheSettingsOfPostfix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := Finger{Path: script(t, `printf '%s\n' "$@" >`+dir+`/args; env >`+dir+`/env; printf '`+strings.TrimSpace(verifiedLine)+`\n'`),
		Args: []string{"-F", "/roots with space.pem"}, Env: []string{"MAIL_CONFIG=/etc/postfix-out", "PATH=/usr/bin:/bin"}}
	d := fingerDialogue()
	d.Helo = "mail.example.com"
	require.Equal(t, Verified, f.Ask(t.Context(), d).Verdict)
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	require.NoError(t, err)
	require.Equal(t, "-c\n-l\nsecure\n-t\n40\n-T\n40\n-s\nsmtps-a.example.com\n-F\n/roots with space.pem\n-o\nmyhostname=mail.example.com\n-w\n[192.0.2.1]:26\nsmtps-a.example.com\n", string(args))
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	require.Contains(t, string(env), "MAIL_CONFIG=/etc/postfix-out\n")
	require.NotContains(t, string(env), "HOME=")

	d.Addr, d.Implicit, d.Helo = netip.MustParseAddrPort("[2001:db8::1]:25"), false, ""
	f.Ask(t.Context(), d)
	args, err = os.ReadFile(filepath.Join(dir, "args"))
	require.NoError(t, err)
	require.Contains(t, string(args), "\n[ipv6:2001:db8::1]:25\nsmtps-a.example.com\n")
	require.NotContains(t, string(args), "\n-w\n")
}

func TestFingerIsBounded(t *testing.T) {
	t.Parallel()
	ask := func(ctx context.Context, body string, change func(*Dialogue)) Opinion {
		f, d := Finger{Path: script(t, body), Env: []string{"PATH=/usr/bin:/bin"}}, fingerDialogue()
		if change != nil {
			change(&d)
		}
		return f.Ask(ctx, d)
	}
	for _, host := range []string{"a b.example", "-x.example", "$(id).example", "", "smtps-a.example.com\n"} {
		require.Equal(t, NoVerdict, ask(t.Context(), "printf '"+strings.TrimSpace(verifiedLine)+`\n'`, func(d *Dialogue) { d.Host = host }).Verdict, host)
	}
	require.Equal(t, NoVerdict, ask(t.Context(), "yes | head -c 200000; printf '"+strings.TrimSpace(verifiedLine)+`\n'`, nil).Verdict, "output beyond the bound")
	require.Equal(t, NoVerdict, ask(t.Context(), "exec sleep 1000", func(d *Dialogue) { d.Whole = 50 * time.Millisecond }).Verdict, "its own limit")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NotEqual(t, Verified, ask(ctx, "exec sleep 1000", nil).Verdict, "the caller's context")
	missing := Finger{Path: "/nonexistent/posttls-finger"}
	require.Equal(t, NotAsked, missing.Ask(t.Context(), fingerDialogue()).Verdict, "what cannot be started has no opinion")
}

// An open host needs the verdicts of both; what Go cannot judge is for Postfix to decide.
func TestWeigh(t *testing.T) {
	t.Parallel()
	sound := Reply{Code: 250}
	for name, c := range map[string]struct {
		t       Transcript
		verdict PostfixVerdict
		ok      bool
		cause   Cause
		ours    bool
	}{
		"both accept":                               {Transcript{}, Verified, true, CauseNone, false},
		"Postfix refuses":                           {Transcript{}, Rejected, false, RefusedByPostfix, false},
		"Postfix has no verdict":                    {Transcript{}, NoVerdict, false, CauseNone, true},
		"Postfix is not asked":                      {Transcript{}, NotAsked, true, CauseNone, false},
		"not judged, Postfix accepts":               {Transcript{Failed: StepTLS, Cause: NotJudged}, Verified, true, CauseNone, false},
		"not judged, Postfix refuses":               {Transcript{Failed: StepTLS, Cause: NotJudged}, Rejected, false, RefusedByPostfix, false},
		"not judged, Postfix has no verdict":        {Transcript{Failed: StepTLS, Cause: NotJudged}, NoVerdict, false, NotJudged, false},
		"not judged, Postfix verifies, no EHLO":     {Transcript{Failed: StepTLS, Cause: NotJudged}, GaveUp, false, NotJudged, false},
		"not judged, Postfix is not asked":          {Transcript{Failed: StepTLS, Cause: NotJudged}, NotAsked, false, NotJudged, false},
		"a rule of OpenSSL, OpenSSL accepts":        {Transcript{Failed: StepCertificate, Cause: CertificateRules}, Verified, true, CauseNone, false},
		"a rule of OpenSSL, EHLO 503 for Postfix":   {Transcript{Failed: StepCertificate, Cause: CertificateRules, Implicit: true, EHLO: sound}, GaveUp, true, CauseNone, false},
		"a wrong name, Postfix accepts":             {Transcript{Failed: StepCertificate, Cause: CertificateName}, Verified, false, CertificateName, false},
		"an unknown authority, Postfix accepts":     {Transcript{Failed: StepCertificate, Cause: CertificateChain}, Verified, false, CertificateChain, false},
		"an expired certificate, Postfix refuses":   {Transcript{Failed: StepCertificate, Cause: CertificateExpired}, Rejected, false, CertificateExpired, false},
		"both accept TLS, EHLO differs for Postfix": {Transcript{Implicit: true, EHLO: sound}, GaveUp, true, CauseNone, false},
	} {
		c.t.Steps = []Done{{Step: StepConnect}}
		c.t.weigh(Opinion{c.verdict, "why"})
		require.Equal(t, c.ok, c.t.OK(), name)
		require.Equal(t, c.cause, c.t.Cause, name)
		require.Equal(t, c.ours, c.t.Ours, name)
		require.Equal(t, c.verdict, c.t.Postfix.Verdict, name)
	}
}
