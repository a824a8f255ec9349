//go:build e2e

package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/lab"
)

// TestSendmail delivers with Sendmail and the lines of docs/sendmail.md.
func TestSendmail(t *testing.T) {
	l := newLab(t, lab.Options{})
	m := addMTADomains(l)
	at, err := l.Enter(source+"/bin/sendmail/root", []string{"smmta", "smmsp"}, "/tmp", "/run", "/var")
	require.NoError(t, err)
	page, err := os.ReadFile(source + "/docs/sendmail.md")
	require.NoError(t, err)
	lines := strings.ReplaceAll(block(t, page, "sendmail-mc"), "/etc/ssl/certs/ca-certificates.crt", "/lab/ca.pem")
	lines = strings.ReplaceAll(lines, "-d15", "-d3") // the last mail waits that long
	mc := "include(`/usr/share/sendmail/cf/m4/cf.m4')\nOSTYPE(`linux')\ndefine(`ALIAS_FILE', `')dnl\ndefine(`confDOMAIN_NAME', `" + lab.Hostname + "')dnl\n" +
		lines + "MAILER(`smtp')\n"
	cf, err := inside(t.Context(), at, mc, "/usr/bin/m4")
	require.NoError(t, err, cf)
	require.NoError(t, os.MkdirAll(filepath.Join(at, "etc/mail"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(at, "etc/mail/sendmail.cf"), []byte(cf), 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(at, "var/spool/mqueue"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(at, "etc/ssl/certs"), 0o755))
	log := syslog(t, at)
	startPolicyd(t, l)

	send := func(t *testing.T, to string) string {
		t.Helper()
		// It fails for mail that stays in the queue.
		out, _ := inside(t.Context(), at, "Subject: x\n\nThe secret is "+secret+".\n", "/usr/libexec/sendmail/sendmail", "-v", "-odi", "-f", "someone@"+lab.Hostname, to)
		return log() + out
	}
	sent := func(verify string) func(host string) string {
		return func(host string) string {
			return `(?s)relay=` + regexp.QuoteMeta(host) + `\., [^\n]*verify=` + verify + `,.*stat=Sent`
		}
	}
	m.check(t, send, mtaLog{verified: sent("OK"), dane: sent("TRUSTED"), plain: sent("FAIL"), waits: `stat=Deferred`})
	t.Run("without an answer the mail waits", func(t *testing.T) {
		l.Policyd.Kill()
		out := send(t, "someone@"+m.none)
		require.NotContains(t, out, "Sent (")
		require.Contains(t, out, "Deferred")
	})
}

// syslog gives the programs in a tree a /dev of their own with a log, and returns a function that reads it.
func syslog(t *testing.T, at string) func() string {
	t.Helper()
	dev := filepath.Join(at, "dev")
	out, err := exec.Command("sh", "-ec", `mount -t tmpfs tmpfs "$1"; cp -a /dev/null /dev/random /dev/urandom "$1"`, "sh", dev).CombinedOutput()
	require.NoError(t, err, "%s", out)
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dev, "log"), Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	var text strings.Builder
	go func() {
		line := make([]byte, 4096)
		for {
			n, err := l.Read(line)
			if err != nil {
				return
			}
			mu.Lock()
			text.Write(append(line[:n:n], '\n'))
			mu.Unlock()
		}
	}()
	return func() string {
		// The log is read up to this line, because datagrams are in order.
		const mark = "end of this delivery"
		c, err := net.Dial("unixgram", l.LocalAddr().String())
		require.NoError(t, err)
		_, err = c.Write([]byte(mark))
		require.NoError(t, errors.Join(err, c.Close()))
		var lines string
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			lines = text.String()
			return strings.HasSuffix(lines, mark+"\n")
		}, longest, tick)
		mu.Lock()
		defer mu.Unlock()
		text.Reset()
		return lines
	}
}
