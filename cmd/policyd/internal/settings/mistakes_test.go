package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each mistake is shown with its line, a caret under the place and what to write.
func TestMistakes(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
		caret      string // what is marked
		says       []string
	}{
		{"unknown key", "moed = \"enforce\"", 1, "moed", []string{"unknown key moed", "mode, overrides"}},
		{"unknown key in a table", "[dns]\n\nserver = []", 3, "server", []string{"unknown key dns.server", "[dns]: servers, trust_ad"}},
		{"key in the wrong table", "[server]\ntrust_ad = \"auto\"", 2, "trust_ad", []string{"write it under [dns]"}},
		{"key below a table that belongs at the top", "[server]\noverrides = \"/x\"", 2, "overrides", []string{"top of the file"}},
		{"key in upper case", "MODE = \"off\"", 1, `"off"`, []string{"unknown key MODE", "lower case"}},
		{"key of a table in upper case", "[dns]\nTimeout = \"3s\"", 2, `"3s"`, []string{"unknown key dns.Timeout"}},
		{"table in upper case", "[DNS]\n", 1, "DNS", []string{"unknown key DNS"}},
		{"unknown table", "[servre]\nlisten = []", 1, "servre", []string{"unknown table [servre]", "[server], [dns]"}},
		{"no TOML", "mode = enforce", 1, "enforce", []string{"not TOML", "quotes"}},
		{"unfinished", "[server", 1, "", []string{""}},
		{"key twice", "mode = \"off\"\nmode = \"off\"", 2, "mode", []string{"mode"}},
		{"number for text", "mode = 1", 1, "1", []string{"this takes no integer", `mode = "enforce"`}},
		{"text for a number", "[cache]\nmax_entries = \"9\"", 2, `"9"`, []string{"this takes no string", "max_entries = 400000"}},
		{"text for a truth value", "[policy]\ndane = \"yes\"", 2, `"yes"`, []string{"dane = true"}},
		{"text for a list", "[server]\nlisten = \"127.0.0.1:1\"", 2, `"127.0.0.1:1"`, []string{`listen = ["127.0.0.1:2526"]`}},
		{"number for a duration", "[server]\nidle_timeout = 120", 2, "120", []string{`idle_timeout = "2m"`}},
		{"number in a list", "[server]\nlisten = [\"127.0.0.1:1\",\n 5]", 3, "5", []string{"listen"}},
		{"a list in a list", "mode = \"off\"\n[dns]\nservers = [[\"127.0.0.1\"]]", 3, "servers", []string{"servers: this takes no array"}},
		{"a table in a list", "mode = \"off\"\n[dns]\nservers = [{a = 1}]", 3, "", []string{"servers: this takes no"}},
		{"a table for a value", "[mode]\n", 1, "mode", []string{""}},
		{"a value for a table", "server = 5\n", 1, "5", []string{""}},
		{"number out of all range", "[port26]\nport = 99999999999999999999", 2, "99999999999999999999", []string{""}},

		{"mode", "mode = \"on\"", 1, `"on"`, []string{"mode: ", "enforce, report, off"}},
		{"overrides path", "overrides = \"overrides\"", 1, `"overrides"`, []string{"absolute path"}},
		{"overrides file that does not exist", "overrides = \"/nonexistent/overrides\"", 1, `"/nonexistent/overrides"`, []string{"no such file"}},
		{"listen without a port", "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1\"]", 2, `"127.0.0.1"`, []string{"host:port"}},
		{"listen port out of range", "[server]\nlisten = [\"127.0.0.1:65536\"]", 2, `"127.0.0.1:65536"`, []string{"not a port"}},
		{"listen service name", "[server]\nlisten = [\"127.0.0.1:smtp\"]", 2, `"127.0.0.1:smtp"`, []string{"not a port"}},
		{"listen address", "[server]\nlisten = [\"127.0.0.300:1\"]", 2, `"127.0.0.300:1"`, []string{"neither an IP address"}},
		{"listen path", "[server]\nlisten = [\"unix:sock\"]", 2, `"unix:sock"`, []string{"absolute path"}},
		{"listen long path", "[server]\nlisten = [\"unix:/" + strings.Repeat("a", 110) + "\"]", 2, `"unix:/` + strings.Repeat("a", 110) + `"`, []string{"107"}},
		{"listen path without unix:", "[server]\nlisten = [\"/run/sock\"]", 2, `"/run/sock"`, []string{"host:port"}},
		{"listen twice", "[server]\nlisten = [\"127.0.0.1:1\",\n\"127.0.0.1:1\"]", 3, `"127.0.0.1:1"`, []string{"twice"}},
		{"socket_mode", "[server]\nsocket_mode = \"0888\"", 2, `"0888"`, []string{"octal"}},
		{"socket_mode with more than permissions", "[server]\nsocket_mode = \"4660\"", 2, `"4660"`, []string{"octal"}},
		{"socket_mode nobody", "[server]\nsocket_mode = \"0000\"", 2, `"0000"`, []string{"octal"}},
		{"socket_group", "[server]\nsocket_group = \"no-such-group\"", 2, `"no-such-group"`, []string{"no group"}},
		{"max_connections", "[server]\nmax_connections = 0", 2, "0", []string{"out of range"}},
		{"duration without a unit", "[server]\nidle_timeout = \"120\"", 2, `"120"`, []string{"not a duration"}},
		{"negative duration", "[server]\ndrain_timeout = \"-1s\"", 2, `"-1s"`, []string{"write 0s to 10m"}},
		{"duration too long", "[port26]\nwait = \"1h\"", 2, `"1h"`, []string{"write 1ms to 10s"}},
		{"no idle_timeout", "[server]\nidle_timeout = \"0s\"", 2, `"0s"`, []string{"write 10ms to 24h"}},
		{"no DNS timeout", "[dns]\ntimeout = \"0\"", 2, `"0"`, []string{"out of range"}},
		{"DNS server name", "[dns]\nservers = [\"127.0.0.1\", \"dns.example.com\"]", 2, `"dns.example.com"`, []string{"DNS server", "tls://"}},
		{"DNS server port", "[dns]\nservers = [\"127.0.0.1:0\"]", 2, `"127.0.0.1:0"`, []string{"port 0"}},
		{"too many DNS servers", "[dns]\nservers = [\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\"]", 2, `"127.0.0.4"`, []string{"at most 3"}},
		{"trust_ad", "[dns]\ntrust_ad = true", 2, "true", []string{`trust_ad = "auto"`}},
		{"trust_ad word", "[dns]\ntrust_ad = \"yes\"", 2, `"yes"`, []string{"auto, always, never"}},
		{"self_test", "[dns]\nself_test = [\"a b\"]", 2, `"a b"`, []string{"domain name"}},
		{"no self_test", "[dns]\nself_test = []", 2, "self_test", []string{"at least one"}},
		{"max_entries", "[cache]\nmax_entries = -1", 2, "-1", []string{"out of range"}},
		{"state_dir", "[cache]\nstate_dir = \"lib\"", 2, `"lib"`, []string{"absolute path"}},
		{"unsigned_mx", "[policy]\nunsigned_mx = \"insecure\"", 2, `"insecure"`, []string{"secure, ignore"}},
		{"mixed_mx", "[policy]\nmixed_mx = \"\"", 2, `""`, []string{"secure, ignore"}},
		{"port26.mode", "[port26]\nmode = \"on\"", 2, `"on"`, []string{"off, probe, always"}},
		{"port26.port 0", "[port26]\nport = 0", 2, "0", []string{"1 to 65535"}},
		{"port26.port 25", "[port26]\nport = 25", 2, "25", []string{"implicit TLS"}},
		{"port26.port 65536", "[port26]\nport = 65536", 2, "65536", []string{"1 to 65535"}},
		{"transport", "[port26]\ntransport = \"smtps:26\"", 2, `"smtps:26"`, []string{"letters, digits"}},
		{"no transport", "[port26]\ntransport = \"\"", 2, `""`, []string{"letters, digits"}},
		{"exclude_domains", "[port26]\nexclude_domains = [\"example.com\", \"user@example.com\"]", 2, `"user@example.com"`, []string{"not a domain", ".example.com"}},
		{"own_hosts", "[port26]\nown_hosts = [\"[192.0.2.1]\"]", 2, `"[192.0.2.1]"`, []string{"not a host name"}},
		{"ca_file that does not exist", "[tls]\nca_file = \"/nonexistent/ca.pem\"", 2, `"/nonexistent/ca.pem"`, []string{"no such file"}},
		{"ca_file without certificates", "[tls]\nca_file = \"/dev/null\"", 2, `"/dev/null"`, []string{"no certificate"}},
		{"admin.socket", "[admin]\nsocket = \"unix:/run/x\"", 2, `"unix:/run/x"`, []string{"absolute path"}},
		{"metrics.listen", "[metrics]\nlisten = \"9526\"", 2, `"9526"`, []string{"host:port"}},
		{"log.level", "[log]\nlevel = \"INFO+2\"", 2, `"INFO+2"`, []string{"debug, info, warn, error"}},
		{"log.format", "[log]\nformat = \"xml\"", 2, `"xml"`, []string{"auto, text, json"}},
		{"log.lookups", "[log]\nlookups = \"some\"", 2, `"some"`, []string{"changes, all, none"}},

		{"a dotted key", "port26.port = 25", 1, "25", []string{"port: "}},
		{"an inline table", "port26 = {mode = \"off\", port = 25}", 1, "25", []string{"port: "}},
		{"a tab before the place", "[log]\n\tlevel\t= \"x\"", 2, `"x"`, []string{"level: "}},
		{"an escape sequence in a name", "\"\\u001b[31m\" = 1", 1, "", []string{"unknown key ?[31m"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text+"\n")
			bad, ok := errors.AsType[*Error](err)
			require.True(t, ok, "%v", err)
			p := bad.Problems[0]
			for _, s := range tt.says {
				require.Contains(t, p.Text, s)
			}
			require.Equal(t, tt.line, p.Line, "%s", bad)
			require.Equal(t, strings.Split(tt.text, "\n")[tt.line-1], p.Source)
			if tt.caret != "" {
				require.Equal(t, tt.caret, p.Source[p.Column-1:p.Column-1+p.Width], "%s", bad)
			}
			lines := strings.Split(p.String(), "\n")
			require.Len(t, lines, 3)
			require.Regexp(t, `^.*policyd\.toml:\d+: `, lines[0])
			require.Contains(t, lines[2], "^")
			require.NotContains(t, bad.Summary(), "\n")
		})
	}
}

func TestAllMistakesAreShownAtOnce(t *testing.T) {
	_, err := load(t, "mode = \"x\"\n[port26]\nport = 0\n[server]\nsocket_mode = \"x\"\n")
	bad, ok := errors.AsType[*Error](err)
	require.True(t, ok)
	require.Len(t, bad.Problems, 3)
	require.Equal(t, []int{1, 3, 5}, []int{bad.Problems[0].Line, bad.Problems[1].Line, bad.Problems[2].Line})
}

// A mistake in the overrides file is shown there.
func TestMistakesInTheOverridesFile(t *testing.T) {
	overrides := filepath.Join(t.TempDir(), "overrides")
	require.NoError(t, os.WriteFile(overrides, []byte("# mine\n\n  example.com encrpt\n"), 0o600))
	_, err := load(t, "overrides = \""+overrides+"\"\n")
	bad, ok := errors.AsType[*Error](err)
	require.True(t, ok)
	lines := strings.Split(bad.Error(), "\n")
	require.Len(t, lines, 3)
	require.True(t, strings.HasPrefix(lines[0], overrides+":3: "), lines[0])
	require.Equal(t, "    3 |   example.com encrpt", lines[1])
	require.Equal(t, "      |   ^"+strings.Repeat("~", len("example.com encrpt")-1), lines[2])
}
