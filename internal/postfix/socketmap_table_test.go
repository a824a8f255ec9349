package postfix

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseSocketmap(t *testing.T) {
	t.Parallel()
	for table, want := range map[string][2]string{
		"socketmap:inet:127.0.0.1:2526:transport":   {"inet:127.0.0.1:2526", "transport"},
		"proxy:socketmap:unix:policyd/sock:x":       {"unix:policyd/sock", "x"},
		"socketmap:inet:[::1]:2526:":                {"inet:[::1]:2526", ""},
		"socketmap:unix:policyd/sock":               {"unix", "policyd/sock"}, // without a map
		"socketmap:x":                               {},
		"socketmap::x":                              {},
		"hash:/etc/postfix/socketmap:unix:a:b":      {},
		"hash:/etc/postfix/transport":               {},
		"":                                          {},
		"socketmap":                                 {},
		"regexp:{ {/a/ socketmap:unix:/sock:map} }": {},
	} {
		endpoint, name := ParseSocketmap(table)
		require.Equal(t, want, [2]string{endpoint, name}, table)
		if name != "" {
			require.Contains(t, table, SocketmapTable(endpoint, name))
		}
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	s := Settings{"queue_directory": "/var/spool/postfix"}
	for listener, want := range map[string]string{
		"unix:/var/spool/postfix/policyd/sock": "unix:policyd/sock",
		"unix:/var/spool/postfix-2/sock":       "unix:/var/spool/postfix-2/sock",
		"unix:/run/policyd/sock":               "unix:/run/policyd/sock",
		"127.0.0.1:2526":                       "inet:127.0.0.1:2526",
		"0.0.0.0:2526":                         "inet:127.0.0.1:2526",
		":2526":                                "inet:127.0.0.1:2526",
		"[::]:2526":                            "inet:[::1]:2526",
		"mx.own.example:2526":                  "inet:mx.own.example:2526",
	} {
		endpoint := s.Endpoint(listener)
		require.Equal(t, want, endpoint)
		if listener[0] == 'u' {
			require.Equal(t, listener, s.Outside(endpoint), "the way back")
		} else {
			require.Equal(t, endpoint, s.Outside(endpoint))
		}
	}
	s["inet_protocols"] = "ipv6"
	require.Equal(t, "inet:[::1]:2526", s.Endpoint(":2526"))
}

func TestBarred(t *testing.T) {
	t.Parallel()
	s := Settings{"smtp/unix/chroot": "y", "relay/unix/chroot": "n"}
	require.True(t, s.Barred("unix:/run/policyd/sock", "relay/unix", "smtp/unix"))
	require.False(t, s.Barred("unix:/run/policyd/sock", "relay/unix"))
	require.False(t, s.Barred("unix:policyd/sock", "smtp/unix"))
	for _, c := range []struct {
		protocols, endpoint string
		barred              bool
	}{
		{"all", "inet:127.0.0.1:1", false}, {"ipv4", "inet:127.0.0.1:1", false}, {"ipv6", "inet:127.0.0.1:1", true},
		{"all", "inet:[::1]:1", false}, {"ipv4", "inet:[::1]:1", true}, {"ipv6", "inet:[::1]:1", false},
		{"ipv6", "inet:mx.own.example:1", false},
	} {
		s["inet_protocols"] = c.protocols
		require.Equal(t, c.barred, s.Barred(c.endpoint, "smtp/unix"), c)
	}
}
