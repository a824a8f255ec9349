//go:build e2e

package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/postfix"
)

const installed = "/usr/sbin/postconf"

// run runs shell commands, in which postconf is the program at that path.
func run(t *testing.T, postconf string, commands []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", strings.Join(commands, "\n"))
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(postconf)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out), "postconf prints nothing, not even a warning")
}

func value(t *testing.T, postconf, dir, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), postconf, "-c", dir, "-h", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// postconf310 returns the path of a script that runs postconf of Postfix 3.10, which make deps has unpacked, with its own
// libraries.
func postconf310(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../../../bin/postfix310/root")
	require.NoError(t, err)
	loader, err := filepath.Glob(root + "/usr/lib/*/ld-linux*.so.*")
	require.NoError(t, err)
	require.NotEmpty(t, loader, "run make deps")
	script := filepath.Join(t.TempDir(), "postconf")
	text := "#!/bin/sh\nexec " + loader[0] + " --library-path " + filepath.Dir(loader[0]) + ":" + root + "/usr/lib/postfix " + root + "/usr/sbin/postconf \"$@\"\n"
	require.NoError(t, os.WriteFile(script, []byte(text), 0o700))
	return script
}

// TestCommands runs the commands against the installed Postfix and Postfix 3.10. The first run changes what differs,
// the second has nothing to do, and the removal restores the original configuration.
func TestCommands(t *testing.T) {
	t.Parallel()
	t.Run("installed", func(t *testing.T) {
		t.Parallel()
		commands(t, installed)
	})
	t.Run("3.10", func(t *testing.T) {
		t.Parallel()
		postconf := postconf310(t)
		require.Regexp(t, `^3\.10\.`, value(t, postconf, newSender(t).realConfig(postconf, debianMain, debianMaster), "mail_version"))
		commands(t, postconf)
	})
}

func commands(t *testing.T, postconf string) {
	t.Helper()
	const sock = "socketmap:unix:policyd/sock:"
	for name, c := range map[string]struct {
		main, master   string
		policies       string // after the commands
		transports     string // "" means the guard and policyd
		policiesBefore string // after the removal
		wayBack        string
	}{
		"nothing is there": {policies: sock + "MAP"},
		"tables of the site are kept, with their names": {
			main:     "smtp_tls_policy_maps = hash:$config_directory/tls_policy\ntransport_maps = hash:$config_directory/transport, regexp:{ {/x'y/ :} }\n",
			policies: "hash:$config_directory/tls_policy, " + sock + "MAP", transports: "hash:$config_directory/transport, regexp:{ {/x'y/ :} }, " + sock + "transport",
			policiesBefore: "hash:$config_directory/tls_policy", wayBack: "hash:$config_directory/transport, regexp:{ {/x'y/ :} }",
		},
		"an old address and an old name are corrected in place": {
			main:     "smtp_tls_policy_maps = " + "socketmap:inet:127.0.0.1:1:tls-policy-tlsrpt, hash:/a\ntransport_maps = regexp:{ {/@own$$/ :} } proxy:socketmap:inet:127.0.0.1:1:transport hash:/b\n",
			policies: sock + "MAP, hash:/a", transports: "regexp:{ {/@own$$/ :} }, " + sock + "transport, hash:/b",
			policiesBefore: "hash:/a", wayBack: "hash:/b",
		},
		"a guard behind policyd moves to the front": {
			main:     "transport_maps = " + sock + "transport regexp:/etc/postfix/guard\n",
			policies: sock + "MAP", transports: "regexp:/etc/postfix/guard, " + sock + "transport", wayBack: "regexp:/etc/postfix/guard",
		},
		"another daemon's maps are not policyd's": {
			main:     "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8642:QUERY\n",
			policies: "socketmap:inet:127.0.0.1:8642:QUERY, " + sock + "MAP", policiesBefore: "socketmap:inet:127.0.0.1:8642:QUERY",
		},
		"a wrong service is corrected": {
			master: "smtps26 unix - - n - - smtp\n  -o smtp_tls_security_level=may\n  -o smtp_connect_timeout=5s\n", policies: sock + "MAP",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSender(t)
			dir := s.realConfig(postconf, debianMain+c.main, debianMaster+c.master)
			before, err := os.ReadFile(dir + "/main.cf")
			require.NoError(t, err)
			o := Options{Settings: s.loaded(), Postconf: postconf, ConfigDirectory: dir}
			l, err := MakeLines(t.Context(), o)
			require.NoError(t, err)
			unchanged, err := os.ReadFile(dir + "/main.cf")
			require.NoError(t, err)
			require.Equal(t, string(before), string(unchanged), "policyd itself changes nothing")
			require.NotEmpty(t, l.Commands)
			run(t, postconf, l.Commands)
			tlsMap := "tls-policy"
			if (postfix.Settings{"mail_version": l.Postfix}).Since(10, 0) {
				tlsMap = "tls-policy-tlsrpt"
			}
			require.Equal(t, strings.ReplaceAll(c.policies, "MAP", tlsMap), value(t, postconf, dir, "smtp_tls_policy_maps"))
			if c.transports == "" {
				c.transports = `regexp:{ {/@$myhostname$$/ :} {/@localhost(\.localdomain)?$$/ :} {/@localhost\.own\.example$$/ :} }, ` + sock + "transport"
			}
			require.Equal(t, c.transports, value(t, postconf, dir, "transport_maps"))
			require.Equal(t, "0", value(t, postconf, dir, "smtp_mx_address_limit"))
			require.Equal(t, "$myhostname, localhost.own.example, localhost", value(t, postconf, dir, "mydestination"))
			setup, err := newPlan(t.Context(), o)
			require.NoError(t, err)
			require.Equal(t, "smtp", setup.params.Program("smtps26/unix"))
			require.True(t, setup.params.Chrooted("smtps26/unix"))
			require.Equal(t, []string{"yes", "secure", ""}, []string{setup.params["smtps26/unix/smtp_tls_wrappermode"], setup.params["smtps26/unix/smtp_tls_security_level"], setup.params["smtps26/unix/smtp_fallback_relay"]})

			l, err = MakeLines(t.Context(), o)
			require.NoError(t, err)
			require.Empty(t, l.Commands, "a second run has nothing to do")

			r, err := Remove(t.Context(), o)
			require.NoError(t, err)
			run(t, postconf, r.Commands)
			require.Equal(t, c.policiesBefore, value(t, postconf, dir, "smtp_tls_policy_maps"))
			require.Equal(t, c.wayBack, value(t, postconf, dir, "transport_maps"))
			r, err = Remove(t.Context(), o)
			require.NoError(t, err)
			require.Empty(t, r.Commands)
		})
	}
}

// TestAnEntryBehindANameCounts: policyd's table is in a parameter that the site has defined.
func TestAnEntryBehindANameCounts(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	dir := s.realConfig(installed, debianMain, debianMaster)
	o := Options{Settings: s.loaded(), ConfigDirectory: dir}
	l, err := MakeLines(t.Context(), o)
	require.NoError(t, err)
	run(t, installed, l.Commands)
	run(t, installed, []string{
		"postconf -c " + dir + " -e 'my_tables = " + value(t, installed, dir, "smtp_tls_policy_maps") + "'",
		"postconf -c " + dir + " -e 'smtp_tls_policy_maps = hash:/x, $my_tables'",
	})
	l, err = MakeLines(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, l.Commands)
	r, err := Remove(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, []string{"smtp_tls_policy_maps = hash:/x, $my_tables"}, r.Hidden)
}

// Policyd's table behind a name moves together with the tables of the site that are behind the same name.
func TestAGuardBehindANameMovesToTheFront(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	dir := s.realConfig(installed, debianMain+"mine = hash:/x, socketmap:unix:policyd/sock:transport\ntransport_maps = $mine, regexp:/y\n", debianMaster)
	l, err := MakeLines(t.Context(), Options{Settings: s.loaded(), ConfigDirectory: dir})
	require.NoError(t, err)
	run(t, installed, l.Commands)
	require.Equal(t, "regexp:/y, $mine", value(t, installed, dir, "transport_maps"))
}
