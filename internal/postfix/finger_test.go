package postfix

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/smtptls"
)

const fingerHost = "smtps-a.example.com"

func fingerDialogue() smtptls.Dialogue {
	return smtptls.Dialogue{Host: fingerHost, Addr: netip.MustParseAddrPort("192.0.2.1:26"), Implicit: true, Timeout: 40 * time.Second}
}

// finger returns commands with a posttls-finger of this test.
func finger(t *testing.T, body string) Commands {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "posttls-finger"), []byte("#!/bin/sh\n"+body), 0o700))
	return Commands{Postconf: filepath.Join(dir, "postconf")}
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
		verdict smtptls.PostfixVerdict
		why     string
	}{
		"verified":                           {verifiedLine, smtptls.Verified, "Verified TLS connection"},
		"untrusted":                          {"posttls-finger: certificate verification failed for " + where26 + ": untrusted issuer /CN=Lab\nposttls-finger: Untrusted TLS connection established to " + where26 + ": TLSv1.3\n", smtptls.Rejected, "untrusted issuer /CN=Lab"},
		"another name":                       {"posttls-finger: server certificate verification failed for " + where26 + ": num=62:hostname mismatch\nposttls-finger: Untrusted TLS connection established to " + where26 + ": TLSv1.3\n", smtptls.Rejected, "hostname mismatch"},
		"trusted, and the name is not":       {"posttls-finger: Trusted TLS connection established to " + where26 + ": TLSv1.3\n", smtptls.Rejected, "not verified"},
		"a handshake that fails":             {"posttls-finger: SSL_connect error to " + where26 + ": -1\nposttls-finger: warning: TLS library problem: error:0A000410:alert handshake failure\n", smtptls.Rejected, "alert handshake failure"},
		"a handshake that is cut":            {"posttls-finger: SSL_connect error to " + where26 + ": Connection reset by peer\n", smtptls.NoVerdict, "Connection reset by peer"},
		"no connection":                      {"posttls-finger: Failed to establish session to [192.0.2.1]:26 via 192.0.2.1: connect to " + where26 + ": Connection refused\n", smtptls.NoVerdict, "Connection refused"},
		"roots that cannot be read":          {"posttls-finger: cannot load Certification Authority data, CAfile=\"/x\": disabling TLS support\n", smtptls.NoVerdict, "cannot load"},
		"a banner that refuses":              {verifiedLine + "posttls-finger: SMTP service not available: 421 busy\n", smtptls.GaveUp, "421 busy"},
		"EHLO refused":                       {verifiedLine + "posttls-finger: EHLO rejected: 503 no\n", smtptls.GaveUp, "503 no"},
		"nothing":                            {"", smtptls.NoVerdict, "no result"},
		"a verdict about another address":    {"posttls-finger: Verified TLS connection established to 192.0.2.9[192.0.2.9]:26: TLSv1.3\n", smtptls.NoVerdict, "no result"},
		"a server that imitates a verdict":   {"posttls-finger: < 220 Verified TLS connection established to " + where26 + ": TLSv1.3\n", smtptls.NoVerdict, "no result"},
		"a subject that imitates a verdict":  {"posttls-finger: " + where26 + ": subject_CN=Verified TLS connection established to " + where26 + ": x\n", smtptls.NoVerdict, "no result"},
		"a banner that imitates a verdict":   {"posttls-finger: Untrusted TLS connection established to " + where26 + ": x\nposttls-finger: SMTP service not available: 421 Verified TLS connection established to " + where26 + ": \n", smtptls.Rejected, "not verified"},
		"a line with control characters":     {verifiedLine + "posttls-finger: EHLO rejected: 503 \x1b[31m\n", smtptls.GaveUp, "503 ?[31m"},
		"a connection lost within the reply": {verifiedLine + "posttls-finger: lost connection while sending EHLO\n", smtptls.GaveUp, "lost connection"},
	} {
		o := opinion(c.output, addr)
		require.Equal(t, c.verdict, o.Verdict, name)
		require.Contains(t, o.Why, c.why, name)
	}
}

func TestFingerIsRunWithoutAShellAndWithTheSettingsOfPostfix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := finger(t, `printf '%s\n' "$@" >`+dir+`/args; env >`+dir+`/env; printf '`+strings.TrimSpace(verifiedLine)+`\n'`)
	f.ConfigDirectory = "/etc/postfix-out"
	options := []string{"-F", "/roots with space.pem"}
	d := fingerDialogue()
	d.Helo = "mail.example.com"
	require.Equal(t, smtptls.Verified, f.finger(t.Context(), options, d).Verdict)
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	require.NoError(t, err)
	require.Equal(t, "-c\n-l\nsecure\n-t\n40\n-T\n40\n-s\nsmtps-a.example.com\n-F\n/roots with space.pem\n-o\nmyhostname=mail.example.com\n-w\n[192.0.2.1]:26\nsmtps-a.example.com\n", string(args))
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	require.Contains(t, string(env), "MAIL_CONFIG=/etc/postfix-out\n")
	require.NotContains(t, string(env), "HOME=")

	d.Addr, d.Implicit, d.Helo = netip.MustParseAddrPort("[2001:db8::1]:25"), false, ""
	f.finger(t.Context(), options, d)
	args, err = os.ReadFile(filepath.Join(dir, "args"))
	require.NoError(t, err)
	require.Contains(t, string(args), "\n[ipv6:2001:db8::1]:25\nsmtps-a.example.com\n")
	require.NotContains(t, string(args), "\n-w\n")
}

func TestFingerIsBounded(t *testing.T) {
	t.Parallel()
	ask := func(ctx context.Context, body string, change func(*smtptls.Dialogue)) smtptls.Opinion {
		f, d := finger(t, body), fingerDialogue()
		if change != nil {
			change(&d)
		}
		return f.finger(ctx, nil, d)
	}
	for _, host := range []string{"a b.example", "-x.example", "$(id).example", "", "smtps-a.example.com\n"} {
		require.Equal(t, smtptls.NoVerdict, ask(t.Context(), "printf '"+strings.TrimSpace(verifiedLine)+`\n'`, func(d *smtptls.Dialogue) { d.Host = host }).Verdict, host)
	}
	require.Equal(t, smtptls.NoVerdict, ask(t.Context(), "yes | head -c 200000; printf '"+strings.TrimSpace(verifiedLine)+`\n'`, nil).Verdict, "output beyond the bound")
	require.Equal(t, smtptls.NoVerdict, ask(t.Context(), "exec sleep 1000", func(d *smtptls.Dialogue) { d.Timeout = 50 * time.Millisecond }).Verdict, "its own limit")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NotEqual(t, smtptls.Verified, ask(ctx, "exec sleep 1000", nil).Verdict, "the caller's context")
	missing := Commands{Postconf: "/nonexistent/postconf"}
	require.Equal(t, smtptls.NotAsked, missing.finger(t.Context(), nil, fingerDialogue()).Verdict, "what cannot be started has no opinion")
}
