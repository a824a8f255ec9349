package mtasts_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// proxy is an HTTP proxy that connects every CONNECT to one address. It counts the requests for the policy host.
type proxy struct {
	*httptest.Server
	asked atomic.Int64
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || !strings.HasPrefix(r.Host, "mta-sts.example.com:") {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		p.asked.Add(1)
		var d net.Dialer
		out, err := d.DialContext(r.Context(), "tcp", to)
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		defer func() { _ = out.Close() }()
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = in.Close() }()
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(out, in)
		}()
		_, _ = io.Copy(in, out)
		_ = in.Close()
		<-done
	}))
	t.Cleanup(p.Close)
	return p
}

// TestTheProxyOfTheEnvironment is not parallel: it changes the environment.
func TestTheProxyOfTheEnvironment(t *testing.T) {
	ca := smtptest.NewCA(t)
	host := at(t, "127.0.0.5:0", ca.Names(t, "mta-sts.example.com"), nil, serve(enforce))
	other := at(t, "127.0.0.5:0", ca.Names(t, "mta-sts.example.org"), nil, serve(enforce))
	for _, c := range []struct {
		name    string
		setting bool
		env     string
		noProxy string
		host    *policyHost
		want    string
		why     string
		proxied int64
	}{
		{name: "the setting is off", want: fetched},
		{name: "the setting is on", setting: true, want: fetched, proxied: 1},
		{name: "NO_PROXY names the policy host", setting: true, noProxy: "mta-sts.example.com", want: fetched},
		{name: "NO_PROXY names the domain", setting: true, noProxy: "example.org,.example.com", want: fetched},
		{name: "NO_PROXY names another domain", setting: true, noProxy: "example.org", want: fetched, proxied: 1},
		{name: "the certificate is still verified", setting: true, host: other, want: "sts-webpki-invalid", why: "proxy 127.0.0.1:", proxied: 1},
		{name: "the proxy refuses", setting: true, env: "http://127.0.0.9:1", want: "sts-policy-fetch-error", why: "proxy 127.0.0.9:1: connect: connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.host == nil {
				c.host = host
			}
			p := newProxy(t, c.host.server.Listener.Addr().String())
			if c.env == "" {
				c.env = p.URL
			}
			t.Setenv("HTTPS_PROXY", c.env)
			t.Setenv("https_proxy", "")
			t.Setenv("NO_PROXY", c.noProxy)
			t.Setenv("no_proxy", "")
			f := mtasts.Fetcher{Resolver: &families{v4: addrs("127.0.0.5")}, Roots: ca.Roots, Special: true, Port: c.host.port(t), ProxyFromEnvironment: c.setting}
			if c.proxied > 0 {
				f.Resolver = &families{} // the proxy finds the host
			}
			outcome, why := fetch(t, f)
			require.Equal(t, c.want, outcome, why)
			require.Contains(t, why, c.why)
			require.Equal(t, c.proxied, p.asked.Load())
		})
	}
}
