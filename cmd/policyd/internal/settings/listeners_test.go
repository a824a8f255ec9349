package settings_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// mistakesIn returns the mistakes in a settings file.
func mistakesIn(t *testing.T, toml string) string {
	t.Helper()
	l, err := settings.Read("policyd.toml", strings.NewReader(toml))
	if err == nil {
		return ""
	}
	require.NotEmpty(t, l.Mistakes)
	return err.Error()
}

// warningsOf returns the warnings about a settings file without a mistake.
func warningsOf(t *testing.T, toml string) string {
	t.Helper()
	l, err := settings.Read("policyd.toml", strings.NewReader(toml))
	require.NoError(t, err)
	return strings.Join(l.Warnings, "\n")
}

func TestListenersThatCannotBeOpenedTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ toml, earlier, later string }{
		{`server.listen = ["127.0.0.1:2526", "0.0.0.0:2526"]`, "127.0.0.1:2526", "0.0.0.0:2526"},
		{`server.listen = ["0.0.0.0:2526", "localhost:2526"]`, "0.0.0.0:2526", "localhost:2526"},
		{`server.listen = ["127.0.0.1:2526", "localhost:2526"]`, "127.0.0.1:2526", "localhost:2526"},
		{`server.listen = [":2526", "127.0.0.2:2526"]`, ":2526", "127.0.0.2:2526"},
		{`server.listen = ["[::1]:2526", "[::]:2526"]`, "[::1]:2526", "[::]:2526"},
		{`server.listen = ["[::]:2526", "0.0.0.0:2526"]`, "[::]:2526", "0.0.0.0:2526"},
		{`server.listen = ["0.0.0.0:2526", "[::1]:2526"]`, "0.0.0.0:2526", "[::1]:2526"},
		{`server.listen = ["[2001:db8::1]:2526", "0.0.0.0:2526"]`, "[2001:db8::1]:2526", "0.0.0.0:2526"},
		{"metrics.listen = \"mail.example.com:2526\"\nserver.listen = [\"mail.example.com:2526\"]", "mail.example.com:2526", "mail.example.com:2526"},
		{`server.listen = ["unix:/run/a/x", "unix:/run/a/../a/x"]`, "/run/a/x", "/run/a/../a/x"},
		{"server.listen = [\"unix:/run/a/x\"]\nadmin.socket = \"/run/a/x\"", "/run/a/x in server.listen", "admin.socket: /run/a/x"},
		{"metrics.listen = \"127.0.0.1:9123\"\nhttp.listen = \"localhost:9123\"", "localhost:9123 in http.listen", "metrics.listen: 127.0.0.1:9123"},
		{"server.listen = [\"127.0.0.1:9123\"]\nhttp.listen = \"127.0.0.1:9123\"", "127.0.0.1:9123 in server.listen", "http.listen: 127.0.0.1:9123"},
	} {
		require.Contains(t, warningsOf(t, c.toml), c.later+" cannot be opened beside "+c.earlier, c.toml)
	}
	for _, toml := range []string{
		`server.listen = ["127.0.0.1:2526", "127.0.0.2:2526", "[::1]:2526", "127.0.0.1:2527"]`,
		`server.listen = ["0.0.0.0:2526", "[::1]:2527"]`,
		"server.listen = [\"127.0.0.1:0\"]\nhttp.listen = \"127.0.0.1:0\"",
		`server.listen = ["a.example.com:2526", "b.example.com:2526"]`,
		`server.listen = ["unix:/run/a/x", "unix:/run/b/x"]`,
		`server.listen = []`,
		"admin.socket = \"\"\nmetrics.listen = \"\"",
	} {
		require.NotContains(t, warningsOf(t, toml), "cannot be opened", toml)
	}
}

func TestPathsOfListenersThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/run/policyd/", "/", "/run/policyd/.", "/run/policyd/..", `/run/a\u0000b`} {
		require.Contains(t, mistakesIn(t, `server.listen = ["unix:`+path+`"]`), "server.listen: ", path)
	}
	for _, path := range []string{"/run/policyd/", `/run/a\u0000b`} {
		require.Contains(t, mistakesIn(t, `admin.socket = "`+path+`"`), "admin.socket: ", path)
	}
	require.Empty(t, mistakesIn(t, `admin.socket = "/run/a b"`))
	require.Empty(t, mistakesIn(t, `server.listen = ["unix:/run//policyd/sock"]`))
	for _, path := range []string{"/run/a b", "/run/a,b", "/run/$a"} {
		require.Contains(t, warningsOf(t, `server.listen = ["unix:`+path+`"]`), "Postfix cannot have unix:"+path)
	}
	for _, group := range []string{"4294967295", "4294967296", "4294967297", "-1", "99999999999999999999"} {
		require.Contains(t, mistakesIn(t, `server.socket_group = "`+group+`"`), "server.socket_group: ", group)
	}
	require.Empty(t, mistakesIn(t, `server.socket_group = "4294967294"`))
}
