package doctor

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// example returns the lines of an example file except its comments.
func example(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../../postfix", name))
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestTheExamplesAreTheLines(t *testing.T) {
	t.Parallel()
	l, err := linesOf(t, "3.7.11", func(*settings.Settings) {})
	require.NoError(t, err)
	require.Equal(t, example(t, "main.cf.example"), l.Main)
	require.Equal(t, example(t, "master.cf.example"), l.Master)
	require.Empty(t, l.Own)

	l, err = linesOf(t, "3.6.4", func(*settings.Settings) {})
	require.NoError(t, err)
	require.Equal(t, example(t, "transport_own.example"), l.Own)
	text, err := os.ReadFile("../../../../postfix/main.cf.example")
	require.NoError(t, err)
	inComments := strings.ReplaceAll(string(text), "\n#     ", "\n")
	require.Contains(t, inComments, "transport_maps = regexp:/etc/postfix/transport_own\n    socketmap:inet:127.0.0.1:2526:transport\n")
	require.Contains(t, strings.Join(l.Main, "\n"), "transport_maps =\n    regexp:/etc/postfix/transport_own\n    socketmap:inet:127.0.0.1:2526:transport\n")
}

// linesOf returns the lines for a version of Postfix as Debian configures it.
func linesOf(t *testing.T, version string, change func(*settings.Settings)) (Lines, error) {
	t.Helper()
	s := newSender(t)
	s.settings = settings.Default()
	s.settings.Admin.Socket = ""
	change(&s.settings)
	maps.Copy(s.params, map[string]string{
		"mail_version": version, "config_directory": "/etc/postfix", "queue_directory": "/var/spool/postfix",
		"smtp_tls_policy_maps": "", "transport_maps": "", "mydestination": "localhost",
	})
	s.services, s.options = s.services[:3], nil
	return MakeLines(t.Context(), s.made())
}

// The README shows all lines for main.cf except those for port 26.
func TestTheREADMEHasTheLines(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../../README.md")
	require.NoError(t, err)
	_, lines, _ := strings.Cut(string(readme), "## The lines for Postfix")
	for _, r := range writtenRules() {
		require.Contains(t, lines, "\n"+r.Name+" = "+r.Value+"\n")
	}
}

func TestMakeLines(t *testing.T) {
	t.Parallel()
	lines := func(version string, change func(*settings.Settings)) Lines {
		t.Helper()
		made, err := linesOf(t, version, change)
		require.NoError(t, err)
		return made
	}
	same := func(*settings.Settings) {}
	has := func(l Lines, text string) {
		t.Helper()
		require.Contains(t, strings.Join(append(l.Main, l.Master...), "\n"), text)
	}
	has(lines("3.10", same), "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:2526:tls-policy-tlsrpt")
	has(lines("4.0", same), "tls-policy-tlsrpt")
	has(lines("3.9.1", same), "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:2526:tls-policy\n")
	listen := func(addresses ...string) func(*settings.Settings) {
		return func(s *settings.Settings) { s.Server.Listen = addresses }
	}
	has(lines("3.7", listen("unix:/var/spool/postfix/policyd/sock")), "socketmap:unix:policyd/sock:tls-policy")
	has(lines("3.7", listen("unix:/run/policyd/sock", "[::1]:2526")), "socketmap:inet:[::1]:2526:transport")
	has(lines("3.7", listen("unix:/run/policyd/sock")), "socketmap:unix:/run/policyd/sock:transport")
	has(lines("3.7", listen("0.0.0.0:2600")), "socketmap:inet:127.0.0.1:2600:transport")
	has(lines("3.7", func(s *settings.Settings) { s.Port26.Transport = "tls26" }), "tls26     unix  -       -       y")
	off := lines("3.7", func(s *settings.Settings) { s.Port26.Mode = "off" })
	require.NotContains(t, strings.Join(off.Main, "\n"), "transport")
	require.Empty(t, off.Master)

	for _, old := range []string{"3.3", "x", ""} {
		_, err := linesOf(t, old, same)
		require.ErrorContains(t, err, "policyd needs Postfix 3.4 or later")
	}
	none := Options{Settings: &settings.Loaded{}, Postconf: "/nonexistent/postconf"}
	_, err := MakeLines(t.Context(), none)
	require.Error(t, err)
	_, err = Remove(t.Context(), none)
	require.Error(t, err)
}

func TestLinesKeepWhatIsThere(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.params["smtp_tls_policy_maps"] = "hash:/etc/postfix/tls_policy, socketmap:inet:127.0.0.1:1:tls-policy"
	s.params["transport_maps"] = "hash:/etc/postfix/transport"
	s.params["smtp_tls_security_level"], s.params["smtp_tls_CAfile"] = "dane", ""
	s.params["relay_domains"], s.services[1] = "relay.example .below.example texthash:/dev/null", "smtp unix - - n - - smtp"
	s.examine() // writes the configuration
	postconf, err := filepath.Abs("testdata/bin/postconf")
	require.NoError(t, err)
	l, err := MakeLines(t.Context(), Options{Settings: s.loaded(), Postconf: postconf, ConfigDirectory: s.dir + "/etc"})
	require.NoError(t, err)
	require.Equal(t, []string{"3.7.11", s.dir + "/etc"}, []string{l.Postfix, l.Directory})
	require.Equal(t, []string{
		"smtp_tls_security_level = dane",
		"smtp_tls_policy_maps = hash:/etc/postfix/tls_policy, socketmap:unix:policyd/sock:tls-policy",
		"transport_maps =",
		"    regexp:{",
		`        {/@$myhostname$$/  :}`,
		`        {/@localhost(\.localdomain)?$$/  :}`,
		`        {/@relay\.example$$/  :}`,
		`        {/@.*\.below\.example$$/  :}`,
		"    }",
		"    hash:/etc/postfix/transport",
		"    socketmap:unix:policyd/sock:transport",
		"smtp_dns_support_level = dnssec",
		"smtp_tls_dane_insecure_mx_policy = dane",
		"smtp_mx_address_limit = 0",
		"smtp_tls_loglevel = 1",
		"smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt",
	}, l.Main)
	require.Equal(t, "smtps26   unix  -       -       n       -       -       smtp", l.Master[0])
	require.Equal(t, l.Services[0].lines(), l.Master)
	require.Equal(t, "smtps26 unix - - n - - smtp", l.Services[0].Definition)
	require.Contains(t, l.Parameters, Parameter{"smtp_tls_policy_maps", "hash:/etc/postfix/tls_policy, socketmap:unix:policyd/sock:tls-policy"})
}

// Before 3.7 Postfix has no inline tables: the domains of this site are in a file, to which only missing lines are added.
func TestCommandsForAnOldPostfix(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.params["mail_version"], s.params["transport_maps"] = "3.6.4", ""
	s.params["relay_domains"] = "it's.example, relay.example"
	s.examine() // writes the configuration
	postconf, err := filepath.Abs("testdata/bin/postconf")
	require.NoError(t, err)
	commands := func() string {
		t.Helper()
		l, err := MakeLines(t.Context(), Options{Settings: s.loaded(), Postconf: postconf, ConfigDirectory: s.dir + "/etc"})
		require.NoError(t, err)
		return strings.Join(l.Commands, "\n")
	}
	own := s.dir + "/etc/transport_own"
	require.Contains(t, commands(), `printf '%s\n' '/@localhost(\.localdomain)?$/    :' '/@mx\.own\.example$/    :' '/@relay\.example$/    :' >> '`+own+`'`,
		"a file cannot have $myhostname")
	require.Contains(t, commands(), "transport_maps = regexp:"+own+", socketmap:unix:policyd/sock:transport")
	s.write("etc/transport_own", "# mine\n/@localhost(\\.localdomain)?$/  :\n/@mx\\.own\\.example$/ :\n")
	require.Contains(t, commands(), `printf '%s\n' '/@relay\.example$/    :' >> '`)
	s.write("etc/transport_own", "/@localhost(\\.localdomain)?$/  :\n/@mx\\.own\\.example$/ :\n/@relay\\.example$/ :\n")
	require.NotContains(t, commands(), "printf")
}
