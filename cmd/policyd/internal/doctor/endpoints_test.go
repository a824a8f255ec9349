package doctor

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Postfix does not connect to an address of a family that inet_protocols excludes.
func TestEndpointsOfTheFamiliesOfPostfix(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.serve()
	s.params["inet_protocols"], s.params["smtp_tls_policy_maps"] = "ipv6", "socketmap:inet:127.0.0.1:2526:tls-policy"
	for listeners, want := range map[string]string{
		"127.0.0.1:2526 unix:" + s.dir + "/queue/policyd/sock": "unix:policyd/sock",
		"127.0.0.1:2526 [::1]:2526":                            "inet:[::1]:2526",
		":2526":                                                "inet:[::1]:2526",
		"127.0.0.1:2526":                                       "inet:127.0.0.1:2526", // there is no other
	} {
		s.settings.Server.Listen = strings.Fields(listeners)
		s.examine() // writes the configuration
		postconf, err := filepath.Abs("testdata/bin/postconf")
		require.NoError(t, err)
		l, err := MakeLines(t.Context(), Options{Settings: s.loaded(), Postconf: postconf, ConfigDirectory: s.dir + "/etc"})
		require.NoError(t, err)
		require.Contains(t, l.Main, "smtp_tls_policy_maps = socketmap:"+want+":tls-policy", listeners)
	}
}
