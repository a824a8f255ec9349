package stub

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// onThisMachine is the usual server.
func onThisMachine() []Server { return []Server{{Addr: netip.MustParseAddrPort("127.0.0.1:53")}} }

func TestParseServer(t *testing.T) {
	good := map[string]string{
		"127.0.0.1":                    "127.0.0.1:53",
		"127.0.0.1:5300":               "127.0.0.1:5300",
		"::1":                          "[::1]:53",
		"[::1]":                        "[::1]:53",
		"[::1]:53":                     "[::1]:53",
		"fe80::1%eth0":                 "[fe80::1%eth0]:53",
		"tls://dns.example@192.0.2.1":  "tls://dns.example@192.0.2.1:853",
		"tls://192.0.2.1@192.0.2.1:85": "tls://192.0.2.1@192.0.2.1:85",
		"tls://dns.example@[::1]:853":  "tls://dns.example@[::1]:853",
		"[2620:fe::fe:10]":             "[2620:fe::fe:10]:53",
		"2620:fe::fe":                  "[2620:fe::fe]:53",
		"2620:fe::9":                   "[2620:fe::9]:53",
		"2001:db8:0:0:0:0:0:53":        "[2001:db8::53]:53",
		"2001:4860:4860::8888":         "[2001:4860:4860::8888]:53",
	}
	for text, want := range good {
		server, err := ParseServer(text)
		require.NoError(t, err, text)
		require.Equal(t, want, server.String())
		again, err := ParseServer(server.String())
		require.NoError(t, err)
		require.Equal(t, server, again)
	}
	bad := []string{
		"", "localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:dns", "[127.0.0.1]", "[::1", "::1]", "127.0.0.1 ", "127.1",
		"tls://192.0.2.1", "tls://@192.0.2.1", "tls://a b@192.0.2.1", "tls://a@", "tls://a@b@192.0.2.1", "tls://m\u00fc@192.0.2.1", "tls://.@192.0.2.1", "tls://dns..example@192.0.2.1",
		"https://dns.example/", "udp://127.0.0.1", "127.0.0.1:99999",
		"224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1", "[fe80::1]:53", "tls://dns.example@fe80::1",
	}
	for text, form := range map[string]string{
		"::1:53":              `"[::1]:53"`,
		"::1:5353":            `"[::1]:5353"`,
		"fe80::1:53":          `"[fe80::1]:53"`,
		"2001:db8::53:853":    `"[2001:db8::53]:853"`,
		"tls://dns.a@::1:853": `"tls://dns.a@[::1]:853"`,
		"2620:fe::fe:10":      `"[2620:fe::fe:10]"`,
	} {
		server, err := ParseServer(text)
		require.ErrorContains(t, err, form)
		require.Zero(t, server)
	}
	for _, text := range bad {
		server, err := ParseServer(text)
		require.Error(t, err, text)
		require.Contains(t, err.Error(), `write "127.0.0.1"`)
		require.Zero(t, server)
	}
}

// trust_ad = "auto" trusts 127.0.0.1 and ::1, other loopback addresses only if they are written in [dns] servers, and
// the addresses of known relays never. If one server is not trusted, nothing is secure.
func TestTrust(t *testing.T) {
	const always, written, never = 2, 1, 0
	const docker, resolved, elsewhere = "Docker's relay", "systemd-resolved", "not a resolver on loopback"
	tests := []struct {
		servers string
		auto    int
		reason  string
	}{
		{"127.0.0.1", always, ""},
		{"127.0.0.1:5300", always, ""},
		{"::1", always, ""},
		{"[::1]:5300", always, ""},
		{"::ffff:127.0.0.1", always, ""},
		{"tls://a@127.0.0.1", always, ""},
		{"127.0.0.1 ::1", always, ""},
		{"127.8.9.10", written, "127.8.9.10:53 is neither 127.0.0.1 nor ::1"},
		{"127.0.0.2", written, "127.0.0.2:53 is neither 127.0.0.1 nor ::1"},
		{"127.0.0.1 ::1 127.0.0.2", written, "127.0.0.2:53 is neither"},
		{"127.0.0.11", never, docker},
		{"127.0.0.11:5353", never, docker},
		{"::ffff:127.0.0.11", never, docker},
		{"tls://a@127.0.0.11", never, docker},
		{"127.0.0.1 127.0.0.11", never, docker},
		{"127.0.0.53", never, resolved},
		{"127.0.0.54", never, resolved},
		{"127.0.0.53:5353", never, resolved},
		{"::ffff:127.0.0.53", never, resolved},
		{"127.0.0.1 127.0.0.54", never, resolved},
		{"192.0.2.1", never, elsewhere},
		{"10.0.0.1", never, elsewhere},
		{"0.0.0.0", never, elsewhere},
		{"::", never, elsewhere},
		{"fe80::1%lo", never, elsewhere},
		{"tls://dns.example@192.0.2.1", never, elsewhere},
		{"127.0.0.1 192.0.2.1", never, "192.0.2.1:53 is not"},
		{"192.0.2.1 127.0.0.1", never, "192.0.2.1:53 is not"},
		{"", never, ""},
	}
	for _, tc := range tests {
		var servers []Server
		for text := range strings.FieldsSeq(tc.servers) {
			server, err := ParseServer(text)
			require.NoError(t, err)
			servers = append(servers, server)
		}
		followed, reason := (&Options{}).trusts(servers)
		require.Equal(t, tc.auto == always, followed, tc.servers)
		require.Contains(t, reason, tc.reason, tc.servers)
		require.Equal(t, followed || len(servers) == 0, reason == "", tc.servers)
		set, reason := (&Options{Servers: strings.Fields(tc.servers)}).trusts(servers)
		require.Equal(t, tc.auto >= written, set, tc.servers)
		require.Equal(t, set || len(servers) == 0, reason == "", tc.servers)
		all, _ := (&Options{Trust: TrustAlways}).trusts(servers)
		require.Equal(t, len(servers) > 0, all)
		for _, mode := range []TrustMode{TrustNever, "Always", "other"} {
			none, _ := (&Options{Trust: mode, Servers: []string{"127.0.0.1"}}).trusts(servers)
			require.False(t, none)
		}
	}
}

func TestServersOfResolvConf(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"as it is":                    {"search example.com\nnameserver 127.0.0.1\noptions edns0\n", "127.0.0.1:53"},
		"three at most":               {"nameserver 127.0.0.1\nnameserver ::1\nnameserver 127.0.0.3\nnameserver 192.0.2.1\n", "127.0.0.1:53 [::1]:53 127.0.0.3:53"},
		"comments":                    {"# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n#nameserver 192.0.2.3\nnameserver\t127.0.0.1 # ours\n", "127.0.0.1:53"},
		"a scope":                     {"nameserver fe80::1%eth0", "[fe80::1%eth0]:53"},
		"a line that cannot be read":  {"nameserver 127.0.0.1:53\nnameserver\nnameserver resolver.example\nnameserver 192.0.2.1\n", "192.0.2.1:53"},
		"the word must be whole":      {"nameservers 192.0.2.1\nNAMESERVER 192.0.2.1\n", ""},
		"nothing":                     {"", ""},
		"garbage":                     {"\x00\xff\xfe\x00nameserver\x00", ""},
		"a line without end of line":  {"nameserver 192.0.2.1", "192.0.2.1:53"},
		"CRLF":                        {"nameserver 192.0.2.1\r\n", "192.0.2.1:53"},
		"the same server three times": {strings.Repeat("nameserver ::1\n", 3), "[::1]:53 [::1]:53 [::1]:53"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			require.NoError(t, os.WriteFile(path, []byte(tc.text), 0o600))
			servers, err := serversOf(Options{ResolvConf: path})
			require.NoError(t, err)
			var list []string
			for _, server := range servers {
				list = append(list, server.String())
			}
			require.Equal(t, tc.want, strings.Join(list, " "))
		})
	}
	servers, err := serversOf(Options{ResolvConf: filepath.Join(t.TempDir(), "missing")})
	require.NoError(t, err)
	require.Empty(t, servers)
	_, err = serversOf(Options{ResolvConf: t.TempDir()})
	require.Error(t, err, "a directory")
}

func TestConfigure(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	s, err := New(Options{ResolvConf: missing})
	require.NoError(t, err)
	require.Equal(t, State{Servers: []string{"127.0.0.1:53"}, Source: missing, Trusted: true, SelfTest: "unknown"}, s.State(), "as the C library does")
	for name, o := range map[string]Options{
		"a wrong server":     {Servers: []string{"localhost"}},
		"an unreadable file": {ResolvConf: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, s.Configure(o))
			require.Equal(t, []string{"127.0.0.1:53"}, s.State().Servers, "the old ones are still in force")
			none, err := New(o)
			require.Error(t, err)
			require.Nil(t, none)
		})
	}
}
