package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/cases"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	const to = "postfix/smtp[7]: ABC: to=<a@b.test>, relay="
	for line, want := range map[string]string{
		"Verified TLS; " + to + "mx.b.test[127.0.0.2]:25, delay=1, dsn=2.0.0, status=sent (250 Ok)":                           "sent on 25, Verified TLS",
		"Verified TLS; postfix/smtps26/smtp[7]: ABC: to=<a@b.test>, relay=mx.b.test[::1]:26, dsn=2.0.0, status=sent (250 Ok)": "sent on 26, Verified TLS",
		to + "mx.b.test[127.0.0.2]:25, dsn=2.0.0, status=sent (250 Ok)":                                                       "sent on 25, in the clear",
		"postfix/local[7]: ABC: to=<a@b.test>, relay=local, dsn=2.0.0, status=sent (delivered)":                               "sent, local",
		to + "none, dsn=4.4.1, status=deferred (refused)":                                                                     "deferred",
		to + "none, dsn=4.4.1, status=deferred (refused)\n" + to + "mx[1]:25, dsn=2.0.0, status=sent (250 Ok)":                "sent on 25, in the clear",
		"60 mails sent, 60 received":                      "60 mails sent",
		"posttls-finger -c -l secure mx.b.test\nand more": "posttls-finger -c -l secur",
	} {
		require.Equal(t, want, outcome(line))
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	p := page{to: &b}
	p.heading(cases.Phase{Name: "promises", Port26: "probe"})
	p.line("a case", cases.Result{Line: "all sent, and so on"})
	p.line("another", cases.Result{Err: errors.New("it was lost")})
	require.Equal(t, "\npromises (port26.mode = \"probe\")\n"+
		"ok   all sent                   a case\n"+
		"BAD                             another\n       it was lost\n", b.String())
}
