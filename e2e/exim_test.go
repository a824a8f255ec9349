//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/lab"
)

// TestExim delivers with Exim and the unchanged lines of docs/other-mtas.md.
func TestExim(t *testing.T) {
	l := newLab(t, lab.Options{})
	m := addMTADomains(l)
	at, err := l.Enter(source+"/bin/exim/root", []string{"Debian-exim"}, "/tmp", "/run", "/var")
	require.NoError(t, err)
	page, err := os.ReadFile(source + "/docs/other-mtas.md")
	require.NoError(t, err)
	macros, routers, transports := block(t, page, "exim-macros"), block(t, page, "exim-routers"), block(t, page, "exim-transports")
	// The receivers of the lab are on loopback addresses, and have certificates of its own authority.
	routers = strings.ReplaceAll(routers, "127.0.0.0/8", "127.0.0.1")
	transports = strings.ReplaceAll(transports, "= system", "= /lab/ca.pem")
	settings := macros + `
primary_hostname = ` + lab.Hostname + `
domainlist local_domains = ` + lab.OwnDomain + `
domainlist relay_to_domains =
log_selector = +tls_peerdn +tls_certificate_verified +dnssec
keep_environment =
begin routers
` + routers + `
dnslookup:
  driver = dnslookup
  domains = ! +local_domains
  transport = remote_smtp
  no_more
begin transports
` + transports + `
remote_smtp:
  driver = smtp
  hosts_try_dane =
begin retry
*  *  F,2h,15m
`
	require.NoError(t, os.WriteFile(filepath.Join(at, "etc/exim4/exim4.conf"), []byte(settings), 0o644))
	for _, dir := range []string{"var/spool/exim4", "var/log/exim4"} {
		require.NoError(t, os.MkdirAll(filepath.Join(at, dir), 0o755))
		require.NoError(t, os.Chown(filepath.Join(at, dir), lab.FirstUser, lab.FirstUser))
	}
	startPolicyd(t, l)

	log := filepath.Join(at, "var/log/exim4/mainlog")
	send := func(t *testing.T, to string) string {
		t.Helper()
		before, _ := os.ReadFile(log)
		out, err := inside(t.Context(), at, "Subject: x\n\nThe secret is "+secret+".\n", "/usr/sbin/exim4", "-odi", "-f", "someone@"+lab.OwnDomain, to)
		require.NoError(t, err, out)
		after, err := os.ReadFile(log)
		require.NoError(t, err)
		return string(after[len(before):])
	}
	m.check(t, send, mtaLog{
		waits: ` == .* defer \(`,
		verified: func(host string) string {
			return `=> .* T=smtp_secure H=` + regexp.QuoteMeta(host) + ` .* X=\S+ CV=yes`
		},
		dane:  func(host string) string { return `=> .* T=smtp_dane H=` + regexp.QuoteMeta(host) + ` .* CV=dane` },
		plain: func(host string) string { return `=> .* T=remote_smtp H=` + regexp.QuoteMeta(host) + ` .* CV=no` },
	})
	t.Run("without an answer the mail waits", func(t *testing.T) {
		l.Policyd.Kill()
		line := send(t, "someone@"+m.none)
		require.Contains(t, line, " defer (")
		require.NotContains(t, line, "=>")
	})
}

// startPolicyd starts the resolvers and policyd, for a mail server that the test runs itself.
func startPolicyd(t *testing.T, l *lab.Lab) {
	t.Helper()
	require.NoError(t, l.Prepare())
	require.NoError(t, l.Resolver.Start(t.Context()))
	require.NoError(t, l.Upstream.Start(t.Context()))
	require.NoError(t, l.Policyd.Start(t.Context()))
}

// inside runs a program in a tree to its end.
func inside(ctx context.Context, at, input, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: at}
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// block returns a block of lines of a page.
func block(t *testing.T, page []byte, name string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)```" + name + "\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, found, name)
	return string(found[1])
}

// secret is part of every mail.
const secret = "secret-of-this-mail"

// mtaDomains are the domains that a mail server other than Postfix sends to.
type mtaDomains struct {
	good, wrong, elsewhere, dane, badDANE, none    string
	goodMX, wrongMX, otherMX, daneMX, badMX, plain *lab.Receiver
}

// addMTADomains adds them to a lab that has not started.
func addMTADomains(l *lab.Lab) *mtaDomains {
	m := &mtaDomains{good: "good.unsigned.test", wrong: "wrong.unsigned.test", elsewhere: "elsewhere.unsigned.test", dane: "dane.test", badDANE: "baddane.test", none: "none.unsigned.test"}
	m.goodMX = l.Host(lab.Host{Name: "starttls-mx.good.unsigned.test", On25: lab.STARTTLS})
	m.wrongMX = l.Host(lab.Host{Name: "starttls-mx.wrong.unsigned.test", On25: lab.STARTTLS, Flaw: lab.OtherName})
	// The certificate of this host is good, but its name makes no promise: the policy names the other host, which is closed.
	m.otherMX = l.Host(lab.Host{Name: "mx.elsewhere.unsigned.test", On25: lab.STARTTLS})
	l.Host(lab.Host{Name: "starttls-mx.elsewhere.unsigned.test", On25: lab.Closed})
	m.daneMX = l.Host(lab.Host{Name: "mx.dane.test", On25: lab.STARTTLS, Flaw: lab.SelfSigned})
	m.badMX = l.Host(lab.Host{Name: "mx.baddane.test", On25: lab.STARTTLS})
	m.plain = l.Host(lab.Host{Name: "mx.none.unsigned.test", On25: lab.STARTTLS, Flaw: lab.SelfSigned})
	l.TLSA(m.daneMX, 25)
	l.Records("_25._tcp.mx.baddane.test. TLSA 3 1 1 " + strings.Repeat("ab", 32))
	l.MX(m.good, m.goodMX.Name)
	l.MX(m.wrong, m.wrongMX.Name)
	l.MX(m.elsewhere, "starttls-mx.elsewhere.unsigned.test", m.otherMX.Name)
	l.MX(m.dane, m.daneMX.Name)
	l.MX(m.badDANE, m.badMX.Name)
	l.MX(m.none, m.plain.Name)
	return m
}

// mtaLog has expressions for the lines of a log about mail that was delivered to a host.
type mtaLog struct {
	verified, dane, plain func(host string) string
	waits                 string // for mail that stays in the queue
}

// check sends a mail to each domain.
func (m *mtaDomains) check(t *testing.T, send func(t *testing.T, to string) string, log mtaLog) {
	t.Helper()
	for _, c := range []struct {
		name, domain string
		to           *lab.Receiver
		line         func(host string) string // nil: the mail waits
	}{
		{"a promise that is kept: delivered with a verified certificate", m.good, m.goodMX, log.verified},
		{"a promise with a wrong certificate: the mail waits", m.wrong, m.wrongMX, nil},
		{"a host that the policy does not name is never used", m.elsewhere, m.otherMX, nil},
		{"DANE: delivered to the host with the right certificate", m.dane, m.daneMX, log.dane},
		{"DANE with a wrong certificate: the mail waits", m.badDANE, m.badMX, nil},
		{"no policy: delivered as before", m.none, m.plain, log.plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := send(t, "someone@"+c.domain)
			fmt.Printf("     %s\n", strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n     "))
			if c.line == nil {
				require.Regexp(t, log.waits, lines)
				require.Empty(t, c.to.Got(secret), lines)
				require.False(t, c.to.Seen("MAIL FROM"), "nothing in plaintext")
				return
			}
			require.Regexp(t, c.line(c.to.Name), lines)
			got := c.to.Got(secret)
			require.Len(t, got, 1)
			require.True(t, got[0].TLS)
		})
	}
}
