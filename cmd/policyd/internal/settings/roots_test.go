package settings

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
)

// The root certificates reach everything that verifies certificates.
func TestRootsAndProxyReachTheirUsers(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	pem, err := os.ReadFile("testdata/ca.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ca, pem, 0o600))
	l, err := load(t, "[tls]\nca_file = \""+ca+"\"\n[mta_sts]\nproxy_from_environment = true\n")
	require.NoError(t, err)
	quiet := slog.New(slog.DiscardHandler)
	fetcher, ok := l.Store(nil, quiet).Fetcher.(*mtasts.Fetcher)
	require.True(t, ok)
	require.True(t, fetcher.ProxyFromEnvironment)
	require.Same(t, l.Roots.Pool, fetcher.Roots)
	require.Same(t, l.Roots.Pool, l.Probe(nil, nil, quiet).Roots)
	require.Nil(t, l.Stub(quiet).RootCAs, "no DNS over TLS: a change of the roots must not void the cached answers")

	l, err = load(t, "[dns]\nservers = [\"tls://dns.example@192.0.2.1:853\"]\n")
	require.NoError(t, err)
	require.Same(t, l.Roots.Pool, l.Stub(quiet).RootCAs)
	fetcher, ok = l.Store(nil, quiet).Fetcher.(*mtasts.Fetcher)
	require.True(t, ok)
	require.False(t, fetcher.ProxyFromEnvironment)
}
