package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNexthopArgument(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"example.com", "EXAMPLE.com.", "example.com:25", "example.com:smtp", "example.com:587", "example.com:submission",
		"[mx.example.com]", "[mx.example.com]:26", "m\u00fcnchen.example", "_tcp.example.com", "localhost", "https.example",
	} {
		require.NoError(t, nexthopArgument(good), good)
	}
	for bad, want := range map[string]string{
		"":                           "empty domain",
		" ":                          "is not a domain",
		"https://example.com/path":   "a URL is not a domain: did you mean example.com?",
		"http://mx.example.com:8080": "did you mean mx.example.com?",
		"smtp://user@example.com":    "did you mean example.com?",
		"mailto:secret@example.com":  "did you mean example.com?",
		"//example.com":              "is not a domain",
		"example.com/path":           "is not a domain",
		"secret@example.com":         "an e-mail address is not a domain: did you mean example.com?",
		"secret@":                    "an e-mail address is not a domain",
		"secret@[192.0.2.1]":         "an e-mail address is not a domain",
		"192.0.2.1":                  "is an address",
		"[192.0.2.1]":                "is an address",
		"[192.0.2.1]:25":             "is an address",
		"192.0.2.1:25":               "is an address",
		"[IPv6:2001:db8::1]":         "is an address",
		"[ipv6:2001:db8::1]:26":      "is an address",
		"2001:db8::1":                "is an address",
		"[2001:db8::1]":              "is an address",
		"1.2.3":                      "is an address",
		"*":                          "is not a domain",
		".example.com":               "is not a domain",
		"exa..mple":                  "is not a domain",
		"example.com:":               "is not a domain",
		"example.com:0":              "is not a domain",
		"example.com:x y":            "is not a domain",
		"[example.com":               "is not a domain",
		"[example.com]x":             "is not a domain",
		"example.com\x1b[31m":        "is not a domain",
		"-example.com":               "is not a domain",
	} {
		err := nexthopArgument(bad)
		require.ErrorContains(t, err, want, bad)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "\x1b")
	}
	name, err := domainArgument("EXAMPLE.com.")
	require.NoError(t, err)
	require.Equal(t, "example.com", name)
	for _, bad := range []string{"secret@example.com", "[mx.example.com]", "example.com:25"} {
		_, err := domainArgument(bad)
		require.Error(t, err, bad)
	}
}
