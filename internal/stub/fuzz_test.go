package stub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParseServer: an accepted server is written in a form that can be read again; a refused one returns nothing.
func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "[::1]:53", "fe80::1%eth0", "tls://dns.example@192.0.2.1:853", "tls://a@[::1]", "tls://@", "127.0.0.1:0", "[::1", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		server, err := ParseServer(text)
		if err != nil {
			require.Zero(t, server)
			return
		}
		require.True(t, server.Addr.IsValid())
		require.NotZero(t, server.Addr.Port())
		require.Equal(t, strings.HasPrefix(text, "tls://"), server.TLSName != "")
		again, err := ParseServer(server.String())
		require.NoError(t, err)
		require.Equal(t, server, again)
		yes, reason := (&Options{Servers: []string{text}}).trusts([]Server{server})
		require.Equal(t, yes, reason == "")
		require.True(t, !yes || server.Addr.Addr().Unmap().IsLoopback())
	})
}

// FuzzResolvConf: three servers at most, each a plain one on port 53.
func FuzzResolvConf(f *testing.F) {
	for _, s := range []string{"nameserver 127.0.0.1\n", "nameserver ::1 # x\r\noptions edns0\nnameserver fe80::1%eth0", "nameserver 1.2.3.4:53\n", "\x00nameserver 127.0.0.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		servers, err := serversOf(Options{ResolvConf: path})
		require.NoError(t, err)
		require.LessOrEqual(t, len(servers), 3)
		for _, s := range servers {
			require.Equal(t, uint16(53), s.Addr.Port())
			require.Empty(t, s.TLSName)
			require.Contains(t, text, "nameserver")
		}
	})
}
