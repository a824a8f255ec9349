package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

func TestNexthopArgument(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"example.com", "EXAMPLE.com.", "example.com:25", "example.com:smtp", "example.com:587", "example.com:submission",
		"[mx.example.com]", "[mx.example.com]:26", "m\u00fcnchen.example", "_tcp.example.com", "localhost", "https.example",
	} {
		require.NoError(t, nexthopArgument(good), good)
	}
	for _, bad := range []string{
		"", " ", "https://example.com/path", "http://mx.example.com:8080", "smtp://user@example.com",
		"mailto:secret@example.com", "//example.com", "example.com/path", "secret@example.com", "secret@",
		"secret@[192.0.2.1]", "192.0.2.1", "[192.0.2.1]", "[192.0.2.1]:25", "192.0.2.1:25", "[IPv6:2001:db8::1]",
		"[ipv6:2001:db8::1]:26", "2001:db8::1", "[2001:db8::1]", "1.2.3", "*", ".example.com", "exa..mple",
		"example.com:", "example.com:0", "example.com:x y", "[example.com", "[example.com]x", "example.com\x1b[31m",
		"-example.com",
	} {
		err := nexthopArgument(bad)
		require.ErrorContains(t, err, "is not a domain", bad)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "\x1b")
	}
	name, err := admin.ParseDomain("EXAMPLE.com.")
	require.NoError(t, err)
	require.Equal(t, "example.com", name)
	for _, bad := range []string{"secret@example.com", "[mx.example.com]", "example.com:25"} {
		_, err := admin.ParseDomain(bad)
		require.Error(t, err, bad)
	}
}
