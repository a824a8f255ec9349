//go:build e2e

package doctor

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/text"
)

var update = flag.Bool("update", false, "write the golden files") //nolint:gochecknoglobals // a flag of the test program

// realConfig makes a configuration directory for the Postfix of a postconf, which checks it.
func (s *sender) realConfig(postconf, mainCF, masterCF string) string {
	s.t.Helper()
	s.write("real/main.cf", strings.ReplaceAll(mainCF, "DIR", s.dir))
	s.write("real/master.cf", masterCF)
	out, err := exec.CommandContext(s.t.Context(), postconf, "-c", s.dir+"/real", "-n").CombinedOutput()
	require.NoError(s.t, err, "%s", out)
	require.NotContains(s.t, string(out), "warning", "unused or double parameters")
	return s.dir + "/real"
}

const debianMaster = `smtp      inet  n       -       y       -       -       smtpd
rewrite   unix  -       -       y       1000?   1       trivial-rewrite
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
`

const debianMain = `compatibility_level = 3.6
myhostname = mx.own.example
mydestination = $myhostname, localhost.own.example, localhost
queue_directory = DIR/queue
`

func (s *sender) golden(r Report, name string) {
	s.t.Helper()
	// Replace the names before the lines are wrapped, because their length differs from run to run.
	same := strings.NewReplacer(s.dns.Addr(), "127.0.0.1:53000", s.dir, "/DIR", r.Postfix, "3.7.11").Replace
	for i, f := range r.Findings {
		r.Findings[i].What = same(f.What)
		for j := range f.Change {
			f.Change[j] = same(f.Change[j])
		}
	}
	got := r.Text(false)
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(s.t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(s.t, err)
	require.Equal(s.t, string(want), got)
	for line := range strings.Lines(got) {
		require.True(s.t, len(line) <= text.Columns+1 || strings.Contains(line, "postconf ") || strings.Contains(line, "#"), line)
	}
}

// TestASoundSetUp appends the example files to a configuration and runs doctor on it.
func TestASoundSetUp(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.settings.Server.Listen = []string{"127.0.0.1:0"}
	s.serve()
	s.administer()
	mainCF, err := os.ReadFile("../../../../postfix/main.cf.example")
	require.NoError(t, err)
	masterCF, err := os.ReadFile("../../../../postfix/master.cf.example")
	require.NoError(t, err)
	example := strings.ReplaceAll(string(mainCF), "inet:127.0.0.1:2526", "unix:policyd/sock")
	example = strings.ReplaceAll(example, `#       {/@(.*\.)?own\.example`, `        {/@(.*\.)?own\.example`)
	dir := s.realConfig(installed, debianMain+"smtp_tls_CAfile = DIR/roots.pem\n"+example, debianMaster+string(masterCF))
	r := s.examined(Options{Settings: s.loaded(), ConfigDirectory: dir, ResolvConf: s.dir + "/resolv.conf", Proc: s.dir + "/proc"})
	require.True(t, r.Sound(), "%+v", r.Findings)
	s.golden(r, "sound.txt")
}

// TestTheExampleVerbatim checks that the example can be used unchanged.
func TestTheExampleVerbatim(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	mainCF, err := os.ReadFile("../../../../postfix/main.cf.example")
	require.NoError(t, err)
	masterCF, err := os.ReadFile("../../../../postfix/master.cf.example")
	require.NoError(t, err)
	dir := s.realConfig(installed, "compatibility_level = 3.6\nmyhostname = mx.own.example\nsmtp_tls_security_level=may\n"+string(mainCF), debianMaster+string(masterCF))
	for key, want := range map[string]string{"postmaster@mx.own.example": ":\n", "user@localhost": ":\n", "user@localhost.localdomain": ":\n", "user@example.com": ""} {
		table, err := exec.CommandContext(t.Context(), "/usr/sbin/postconf", "-c", dir, "-xh", "transport_maps").Output()
		require.NoError(t, err)
		guard, _, _ := strings.Cut(string(table), " socketmap:")
		out, _ := exec.CommandContext(t.Context(), "/usr/sbin/postmap", "-c", dir, "-q", key, guard).CombinedOutput()
		require.Equal(t, want, string(out), key)
	}
}

func TestABrokenSetUp(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.serve()
	s.administer()
	s.dns.SetValidating(false)
	s.write("queue/etc/resolv.conf", "nameserver 192.0.2.1\n")
	s.routes["postmaster@relay.example"] = "smtps26:relay.example:26"
	dir := s.realConfig(installed, debianMain+`relay_domains = relay.example
relayhost = [relay.example]:587
smtp_tls_CApath = DIR
smtp_tls_policy_maps = proxy:socketmap:unix:policyd/sock:tls-policy-tlsrpt
transport_maps = socketmap:unix:policyd/sock:transport
`, debianMaster+"smtps26 unix - - n - - smtp\n  -o smtp_tls_security_level=may\n")
	r := s.examined(Options{Settings: s.loaded(), ConfigDirectory: dir, ResolvConf: s.dir + "/resolv.conf", Proc: s.dir + "/proc"})
	require.False(t, r.Sound())
	s.golden(r, "broken.txt")
}
