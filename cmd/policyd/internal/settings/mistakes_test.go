package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each mistake is shown with its line, the full name of the setting and what to write.
func TestMistakes(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
		says       []string
	}{
		{"unknown key", "moed = \"enforce\"", 1, []string{"unknown key moed: did you mean mode?"}},
		{"unknown key in a table", "[dns]\n\nserver = []", 3, []string{"unknown key dns.server: did you mean dns.servers?"}},
		{"key in the wrong table", "[server]\ntrust_ad = \"auto\"", 2, []string{"write it under [dns]"}},
		{"key below a table that belongs at the top", "[server]\noverrides = \"/x\"", 2, []string{"top of the file"}},
		{"key in upper case", "MODE = \"off\"", 1, []string{"unknown key MODE: did you mean mode?"}},
		{"key of a table in upper case", "[dns]\nTimeout = \"3s\"", 2, []string{"unknown key dns.Timeout: did you mean dns.timeout?"}},
		{"table in upper case", "[DNS]\n", 1, []string{"unknown table [DNS]: did you mean [dns]?"}},
		{"unknown table", "[servre]\nlisten = []", 1, []string{"unknown table [servre]: did you mean [server]?"}},
		{"no TOML", "mode = enforce", 1, []string{"not TOML", "quotes"}},
		{"unknown key that resembles none", "xyzzy = 1", 1, []string{"unknown key xyzzy: write one of mode, overrides"}},
		{"unknown key in a table that resembles none", "[dns]\nxyzzy = 1", 2, []string{"unknown key dns.xyzzy: write one of dns.servers, dns.trust_ad"}},
		{"unknown table that resembles none", "[xyzzy]\nlisten = []", 1, []string{"unknown table [xyzzy]: write one of [server], [dns], "}},
		{"a text with a line that looks like a header, below an unknown table", "[xyzzy]\nx = \"\"\"\n[log]\nlevel = 1\n\"\"\"", 1, []string{"unknown table [xyzzy]"}},
		{"key of several tables", "listen = []", 1, []string{"write it under [server] or under [http] or under [metrics]"}},
		{"key in upper case in an inline table", "server = {Listen = []}", 1, []string{"unknown key server.Listen: did you mean server.listen?"}},
		{"unfinished header", "[server", 1, []string{"this is not TOML"}},
		{"unfinished array", "mode = \"off\"\n[dns]\nservers = [\"127.0.0.1\"\n", 4, []string{"this is not TOML"}},
		{"unfinished string", "mode = \"off", 1, []string{"this is not TOML"}},
		{"a mistake in the third line of a list", "[server]\nlisten = [\n\n  \"127.0.0.1:1\", # one\n  x,\n]\n[log]\nlevel = \"info\"", 5, []string{"server.listen: this is not TOML"}},
		{"a line of a text that looks like a key", "mode = \"off\"\noverrides = \"\"\"\nmode = 1\n\"\"\"", 2, []string{"overrides: ", "begins with /"}},
		{"an inline table in several lines", "server = {\n listen = [\"127.0.0.1:1\"],\n}\nmode = \"x\"", 4, []string{"mode: "}},
		{"a table with an empty name", "\"\".mode = \"off\"", 1, []string{"unknown key .mode: "}},
		{"lines of Windows", "mode = \"off\"\r\n\r\n[log]\r\nlevel = \"x\"\r\n", 4, []string{"log.level: \"x\" is not valid"}},
		{"no value", "mode", 1, []string{"this is not TOML"}},
		{"key twice", "mode = \"off\"\nmode = \"off\"", 2, []string{"mode: already set in line 1: keep one of them"}},
		{"key twice, over several lines", "[server]\nlisten = [\"127.0.0.1:1\"]\nlisten = [\n\"127.0.0.1:2\",\n]\nsocket_mode = \"0660\"", 3, []string{"server.listen: already set in line 2"}},
		{"a table that dotted keys have opened", "log.level = \"info\"\n[log]\nformat = \"text\"", 2, []string{"[log] is already open in line 1: put the key there"}},
		{"unfinished header before other tables", "[server\nlisten = 5\n[log]\nlevel = \"info\"", 1, []string{"this is not TOML"}},
		{"unfinished array before other tables", "mode = \"off\"\n[dns]\nservers = [\"127.0.0.1\"\n[log]\nlevel = \"info\"\n", 3, []string{"dns.servers: this is not TOML"}},
		{"empty table in upper case", "[log]\n[Log]\n", 2, []string{"unknown table [Log]: did you mean [log]?"}},
		{"table twice", "[metrics]\nlisten = \"127.0.0.1:1\"\n\n[log]\n[metrics]\n", 5, []string{"[metrics] is already open in line 1: put the key there"}},
		{"number for text", "mode = 1", 1, []string{"mode: 1 is not valid: write \"enforce\", \"report\" or \"off\", such as ", `mode = "enforce"`}},
		{"text for a number", "[cache]\nmax_entries = \"9\"", 2, []string{`cache.max_entries: "9" is not valid: write a number from 1 to 100000000, such as`, "max_entries = 400000"}},
		{"text for a truth value", "[policy]\ndane = \"yes\"", 2, []string{"dane = true"}},
		{"text for a list", "[server]\nlisten = \"127.0.0.1:1\"", 2, []string{`listen = ["127.0.0.1:2526"]`}},
		{"number for a duration", "[server]\nidle_timeout = 120", 2, []string{`server.idle_timeout: 120 is not valid: write a duration from 10ms to 24h, such as idle_timeout = "2m"`}},
		{"an address twice", "[server]\nlisten = [\"127.0.0.1:1\",\n \"127.0.0.1:1\"]", 2, []string{`server.listen: "127.0.0.1:1" is in the list twice: keep one of them`}},
		{"a space in a list that looks like another", "[server]\nlisten = [\"127.0.0.1:1\u00a0\"]", 2, []string{`server.listen: "127.0.0.1:1\u00a0" is not valid: write a list of `}},
		{"number in a list", "[server]\nlisten = [\"127.0.0.1:1\",\n 5]", 2, []string{"server.listen: the value is not valid: write a list of "}},
		{"a list in a list", "mode = \"off\"\n[dns]\nservers = [[\"127.0.0.1\"]]", 3, []string{"dns.servers: the value is not valid: write a list of "}},
		{"a table in a list", "mode = \"off\"\n[dns]\nservers = [{a = 1}]", 3, []string{"dns.servers: the value is not valid: write a list of "}},
		{"a table for a value", "[mode]\n", 1, []string{"mode: the value is not valid"}},
		{"a value for a table", "server = 5\n", 1, []string{"unknown key server: did you mean [server]?"}},
		{"a list of tables", "[[server]]\n", 1, []string{"unknown key server: did you mean [server]?"}},
		{"a value for a table with a short name", "log = 5\n", 1, []string{"unknown key log: did you mean [log]?"}},
		{"number out of all range", "[port26]\nport = 99999999999999999999", 2, []string{"port26.port: this is not TOML"}},

		{"vanished", "[promises]\nvanished = \"holds\"", 2, []string{`promises.vanished: "holds" is not valid: write "off", "alert" or "hold"; did you mean "hold"?`}},
		{"second opinion without TLS", "[dns]\nsecond_opinion = \"192.0.2.1\"", 2, []string{"dns.second_opinion: ", "tls://name@192.0.2.1:853"}},
		{"fleet URL", "[fleet]\nurl = \"http://user:secret@host\"\nkey_file = \"/x\"", 2, []string{"fleet.url: the value is not valid", "redis://"}},
		{"fleet without a key", "[fleet]\nurl = \"redis://host\"", 2, []string{"fleet.url: ", "policyd fleet key"}},
		{"fleet key that is missing", "[fleet]\nurl = \"redis://host\"\nkey_file = \"/nonexistent\"", 3, []string{"fleet.key_file: /nonexistent cannot be read: no such file"}},
		{"fleet prefix", "[fleet]\nprefix = \"a b\"", 2, []string{"fleet.prefix: "}},
		{"fleet pull", "[fleet]\npull = \"10ms\"", 2, []string{"fleet.pull: \"10ms\" is not valid: write a duration from 1s to 1h"}},
		{"mode", "mode = \"on\"", 1, []string{"mode: ", `write "enforce", "report" or "off"`}},
		{"overrides path", "overrides = \"overrides\"", 1, []string{"begins with /"}},
		{"overrides file that does not exist", "overrides = \"/nonexistent/overrides\"", 1, []string{"no such file"}},
		{"listen without a port", "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1\"]", 2, []string{"host:port"}},
		{"listen port out of range", "[server]\nlisten = [\"127.0.0.1:65536\"]", 2, []string{`"127.0.0.1:65536" is not valid`}},
		{"listen service name", "[server]\nlisten = [\"127.0.0.1:smtp\"]", 2, []string{`"127.0.0.1:smtp" is not valid`}},
		{"listen address", "[server]\nlisten = [\"127.0.0.300:1\"]", 2, []string{`"127.0.0.300:1" is not valid`}},
		{"listen path", "[server]\nlisten = [\"unix:sock\"]", 2, []string{"unix:/path"}},
		{"listen long path", "[server]\nlisten = [\"unix:/" + strings.Repeat("a", 110) + "\"]", 2, []string{"107"}},
		{"listen path without unix:", "[server]\nlisten = [\"/run/sock\"]", 2, []string{"host:port"}},
		{"listen twice", "[server]\nlisten = [\"127.0.0.1:1\",\n\"127.0.0.1:1\"]", 2, []string{"twice"}},
		{"socket_mode", "[server]\nsocket_mode = \"0888\"", 2, []string{"octal"}},
		{"socket_mode with more than permissions", "[server]\nsocket_mode = \"4660\"", 2, []string{"octal"}},
		{"socket_mode nobody", "[server]\nsocket_mode = \"0000\"", 2, []string{"octal"}},
		{"socket_group", "[server]\nsocket_group = \"no-such-group\"", 2, []string{"the name or number of a group"}},
		{"max_connections", "[server]\nmax_connections = 0", 2, []string{"write a number from 1 to 1000000"}},
		{"duration without a unit", "[server]\nidle_timeout = \"120\"", 2, []string{"write a duration from 10ms to 24h"}},
		{"negative duration", "[server]\ndrain_timeout = \"-1s\"", 2, []string{"write a duration from 0s to 10m"}},
		{"duration too long", "[port26]\nwait = \"1h\"", 2, []string{"write a duration from 1ms to 10s"}},
		{"no idle_timeout", "[server]\nidle_timeout = \"0s\"", 2, []string{"write a duration from 10ms to 24h"}},
		{"no DNS timeout", "[dns]\ntimeout = \"0\"", 2, []string{"write a duration from 10ms to 30s"}},
		{"DNS server name", "[dns]\nservers = [\"127.0.0.1\", \"dns.example.com\"]", 2, []string{"DNS server", "tls://"}},
		{"DNS server with a port but without brackets", "[dns]\nservers = [\n\"127.0.0.1\",\n\"::1:53\"]", 2, []string{`"[::1]:53"`}},
		{"link-local DNS server with a port but without brackets", "[dns]\nservers = [\"fe80::1:5353\"]", 2, []string{`"fe80::1:5353" is not valid`, `"[::1]:53"`}},
		{"DNS server over TLS without brackets", "[dns]\nservers = [\"tls://dns.example@::1:853\"]", 2, []string{`"tls://dns.example@::1:853" is not valid`, "tls://"}},
		{"DNS server port", "[dns]\nservers = [\"127.0.0.1:0\"]", 2, []string{`"127.0.0.1:0" is not valid`}},
		{"too many DNS servers", "[dns]\nservers = [\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\"]", 2, []string{"at most 3"}},
		{"trust_ad", "[dns]\ntrust_ad = true", 2, []string{`trust_ad = "auto"`}},
		{"trust_ad word", "[dns]\ntrust_ad = \"yes\"", 2, []string{`write "auto", "always" or "never"`}},
		{"self_test", "[dns]\nself_test = [\"a b\"]", 2, []string{"domain name"}},
		{"no self_test", "[dns]\nself_test = []", 2, []string{"at least one"}},
		{"max_entries", "[cache]\nmax_entries = -1", 2, []string{"write a number from 1 to 100000000"}},
		{"state_dir", "[cache]\nstate_dir = \"lib\"", 2, []string{"begins with /"}},
		{"unsigned_mx", "[policy]\nunsigned_mx = \"insecure\"", 2, []string{`did you mean "secure"?`}},
		{"mixed_mx", "[policy]\nmixed_mx = \"\"", 2, []string{`write "secure" or "ignore"`}},
		{"port26.mode", "[port26]\nmode = \"on\"", 2, []string{"port26.mode: ", `write "probe", "always" or "off"`}},
		{"port26.port 0", "[port26]\nport = 0", 2, []string{"1 to 65535"}},
		{"port26.port 25", "[port26]\nport = 25", 2, []string{"but not 25"}},
		{"port26.port 65536", "[port26]\nport = 65536", 2, []string{"1 to 65535"}},
		{"transport", "[port26]\ntransport = \"smtps:26\"", 2, []string{"letters, digits"}},
		{"no transport", "[port26]\ntransport = \"\"", 2, []string{"letters, digits"}},
		{"exclude_domains", "[port26]\nexclude_domains = [\"example.com\", \"user@example.com\"]", 2, []string{`"user@example.com" is not valid`, ".example.com"}},
		{"own_hosts", "[port26]\nown_hosts = [\"[192.0.2.1]\"]", 2, []string{`"[192.0.2.1]" is not valid: write a list of host names`}},
		{"ca_file that does not exist", "[tls]\nca_file = \"/nonexistent/ca.pem\"", 2, []string{"no such file"}},
		{"ca_file without certificates", "[tls]\nca_file = \"/dev/null\"", 2, []string{"no certificate"}},
		{"admin.socket", "[admin]\nsocket = \"unix:/run/x\"", 2, []string{"begins with /"}},
		{"http.listen", "[http]\nlisten = \"2527\"", 2, []string{"host:port"}},
		{"metrics.listen", "[metrics]\nlisten = \"9526\"", 2, []string{"host:port"}},
		{"log.level", "[log]\nlevel = \"INFO\"", 2, []string{"did you mean \"info\"?"}},
		{"log.format", "[log]\nformat = \"xml\"", 2, []string{`write "auto", "text" or "json"`}},
		{"log.lookups", "[log]\nlookups = \"some\"", 2, []string{`write "all", "changes" or "none"`}},

		{"a dotted key", "port26.port = 25", 1, []string{"port26.port: "}},
		{"an inline table", "port26 = {mode = \"off\", port = 25}", 1, []string{"port26.port: "}},
		{"a tab before the place", "[log]\n\tlevel\t= \"x\"", 2, []string{"log.level: "}},
		{"an escape sequence in a name", "\"\\u001b[31m\" = 1", 1, []string{"unknown key ?[31m"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text+"\n")
			bad, ok := errors.AsType[*Error](err)
			require.True(t, ok, "%v", err)
			require.Len(t, bad.Problems, 1, "%s", bad)
			p := bad.Problems[0]
			for _, s := range tt.says {
				require.Contains(t, p.Text, s)
			}
			require.Equal(t, tt.line, p.Line, "%s", bad)
			require.Regexp(t, `^[^\n]*policyd\.toml:\d+: [^\n]*$`, bad.Error())
		})
	}
}

// One run shows every mistake: in syntax, keys, types and values, in the overrides file and in a repeated table.
func TestAllMistakesAreShownTogether(t *testing.T) {
	overrides := filepath.Join(t.TempDir(), "overrides")
	require.NoError(t, os.WriteFile(overrides, []byte("# mine\n\n  example.com encrpt\nexample.net ignore\nexample.org secure match=*.org\n"), 0o600))
	_, err := load(t, `mode = "enfroce"
overrides = "`+overrides+`"
moed = 1
[port26]
port = 0
wait = 5
transport = smtps26
[server]
socket_mode = "x"
listen = [
  "127.0.0.1:1", # a comment with a ]
  """x""", "y",
]
[tls]
ca_file = "/nonexistent/ca.pem"
[port26]
mode = "sometimes"
port = 27
`)
	bad, ok := errors.AsType[*Error](err)
	require.True(t, ok)
	var found []string
	for _, p := range bad.Problems {
		key, _, _ := strings.Cut(p.Text, ": ")
		found = append(found, fmt.Sprint(filepath.Base(p.File), ":", p.Line, " ", key))
	}
	require.Equal(t, []string{
		"policyd.toml:1 mode", "policyd.toml:3 unknown key moed", "policyd.toml:5 port26.port", "policyd.toml:6 port26.wait",
		"policyd.toml:7 port26.transport", "policyd.toml:9 server.socket_mode", "policyd.toml:10 server.listen", "policyd.toml:10 server.listen",
		"policyd.toml:15 tls.ca_file", "policyd.toml:16 [port26] is already open in line 4", "policyd.toml:17 port26.mode", "policyd.toml:18 port26.port",
		"overrides:3 unknown action \"encrpt\"",
		"overrides:5 match=*.org",
	}, found)
	require.Len(t, strings.Split(bad.Error(), "\n"), len(found))
}

func TestDomainsThatCannotBeExcluded(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a..b", "", ".", "*.example.com", "..example.com", "192.0.2.1", "a b"} {
		require.False(t, excludeDomain(bad), bad)
	}
	for _, good := range []string{"example.com", ".example.com", "bücher.example", ".bücher.example."} {
		require.True(t, excludeDomain(good), good)
	}
}
