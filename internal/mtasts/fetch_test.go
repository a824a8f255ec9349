package mtasts_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/testkit"
)

// policyHost serves the policies of any domain on a loopback address.
type policyHost struct {
	server *httptest.Server
	asked  atomic.Int64
}

// at serves on an address, where port 0 is one that no other address of 127.0.0.0/8 has a listener on.
func at(t testing.TB, address string, cert tls.Certificate, change func(*tls.Config), handler http.HandlerFunc) *policyHost {
	t.Helper()
	h := &policyHost{}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		handler(w, r)
	}))
	if host, ok := strings.CutSuffix(address, ":0"); ok {
		address = fmt.Sprintf("%s:%d", host, testkit.Port(t))
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	require.NoError(t, h.server.Listener.Close())
	h.server.Listener = l
	h.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if change != nil {
		change(h.server.TLS)
	}
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	return h
}

func (h *policyHost) port(t testing.TB) uint16 {
	t.Helper()
	return addrPort(t, h.server.Listener.Addr()).Port()
}

func addrPort(t testing.TB, a net.Addr) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort(a.String())
	require.NoError(t, err)
	return ap
}

// serve answers with a policy.
func serve(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, body)
	}
}

// labDNS returns a stub and a cache before a fake recursive resolver that has the policy host of example.com at some addresses.
func labDNS(t testing.TB, addrs ...string) (*dnstest.Server, *dnscache.Cache) {
	t.Helper()
	srv := dnstest.New(t)
	set(srv, addrs...)
	stub, err := stub.New(stub.Options{Servers: []string{srv.Addr()}, Timeout: 5 * time.Second})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- stub.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	return srv, dnscache.New(stub, dnscache.Options{Epoch: stub.Epoch})
}

func set(srv *dnstest.Server, addrs ...string) {
	var a, aaaa dnstest.Answer
	for _, addr := range addrs {
		if strings.Contains(addr, ":") {
			aaaa.Records = append(aaaa.Records, "AAAA "+addr)
		} else {
			a.Records = append(a.Records, "A "+addr)
		}
	}
	srv.Set("mta-sts.example.com", dns.TypeA, a)
	srv.Set("mta-sts.example.com", dns.TypeAAAA, aaaa)
}

const (
	domain  = "example.com"
	enforce = "version: STSv1\nmode: enforce\nmax_age: 86400\nmx: mx.example.com\n"
	fetched = "enforce [mx.example.com]"
)

// fetch fetches the policy of example.com and describes the outcome: mode and patterns, or how to report the failure.
func fetch(t testing.TB, f mtasts.Fetcher) (outcome, why string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	p, err := f.Fetch(ctx, domain)
	if err == nil {
		return fmt.Sprintf("%s %v", p.Mode, p.MX), ""
	}
	failed, ok := errors.AsType[*mtasts.Error](err)
	require.True(t, ok, err)
	require.Equal(t, domain, failed.Domain)
	return string(failed.Failure), err.Error()
}

func TestFetch(t *testing.T) {
	t.Parallel()
	const policyHostName = "mta-sts.example.com"
	ca, other := smtptest.NewCA(t), smtptest.NewCA(t)
	ordinary := ca.Names(t, policyHostName)
	text := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/plain") }
	for _, c := range []struct {
		name    string
		cert    tls.Certificate
		tls     func(*tls.Config)
		handler http.HandlerFunc
		want    string
		why     string
	}{
		{name: "a policy", want: fetched},
		{name: "a wildcard certificate", cert: ca.Names(t, "*.example.com"), want: fetched},
		{name: "TLS 1.2", tls: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, want: fetched},
		{
			name: "the path, the host and the method are those of section 3.3", want: fetched,
			handler: func(w http.ResponseWriter, r *http.Request) {
				host, _, _ := strings.Cut(r.Host, ":")
				if r.Method != http.MethodGet || r.URL.String() != "/.well-known/mta-sts.txt" || host != policyHostName || r.TLS.ServerName != policyHostName ||
					r.Header.Get("Accept-Encoding") != "" {
					w.WriteHeader(http.StatusTeapot)
				}
				serve(enforce)(w, r)
			},
		},
		{
			name: "parameters of the media type are ignored", want: fetched,
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "Text/Plain; charset=utf-8; format=flowed; x=")
				_, _ = io.WriteString(w, enforce)
			},
		},
		{
			name: "64 KiB", want: fetched,
			handler: serve(enforce + strings.Repeat("x: "+strings.Repeat("y", 1020)+"\n", 63)),
		},

		{
			name: "another authority", cert: other.Names(t, policyHostName),
			want: "sts-webpki-invalid", why: "unknown authority",
		},
		{
			name: "a certificate for another name", cert: ca.Names(t, "example.com", "mx.example.com"),
			want: "sts-webpki-invalid", why: "valid for",
		},
		{
			name: "a name in the subject only", cert: ca.Issue(t, smtptest.Leaf{CommonName: policyHostName}),
			want: "sts-webpki-invalid",
		},
		{
			name: "a wildcard for two labels", cert: ca.Names(t, "*.com"),
			want: "sts-webpki-invalid",
		},
		{
			name: "an expired certificate", want: "sts-webpki-invalid", why: "expired",
			cert: ca.Issue(t, smtptest.Leaf{
				Names: []string{policyHostName}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
			}),
		},
		{
			name: "a certificate for clients", want: "sts-webpki-invalid",
			cert: ca.Issue(t, smtptest.Leaf{
				Names: []string{policyHostName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}),
		},
		{
			name: "TLS 1.1", want: "sts-policy-fetch-error", why: "protocol version",
			tls: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		},
		{
			name: "HTTP 3xx redirects MUST NOT be followed", want: "sts-policy-fetch-error", why: "HTTP status 302",
			handler: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/policy" {
					serve(enforce)(w, r)
					return
				}
				text(w)
				http.Redirect(w, r, "/policy", http.StatusFound)
			},
		},
		{
			name: "only valid if the HTTP response code is 200", want: "sts-policy-fetch-error", why: "HTTP status 203",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				text(w)
				w.WriteHeader(http.StatusNonAuthoritativeInfo)
				_, _ = io.WriteString(w, enforce)
			},
		},
		{
			name: "not found", want: "sts-policy-fetch-error", why: "HTTP status 404",
			handler: http.NotFound,
		},
		{
			name: "the media type is text/plain", want: "sts-policy-fetch-error", why: "media type",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = io.WriteString(w, enforce)
			},
		},
		{
			name: "no media type", want: "sts-policy-fetch-error", why: "media type",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				_, _ = io.WriteString(w, enforce)
			},
		},
		{
			name: "compressed", want: "sts-policy-fetch-error", why: "Content-Encoding",
			handler: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				serve(enforce)(w, r)
			},
		},
		{
			name: "over 64 KiB", want: "sts-policy-invalid", why: "64 KiB",
			handler: serve(enforce + strings.Repeat("x: "+strings.Repeat("y", 1020)+"\n", 64)),
		},
		{
			name: "without end", want: "sts-policy-invalid", why: "64 KiB",
			handler: func(w http.ResponseWriter, r *http.Request) {
				text(w)
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, enforce); err != nil {
						return
					}
				}
			},
		},
		{
			name: "cut off", want: "sts-policy-fetch-error", why: "EOF",
			handler: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "1000")
				serve(enforce)(w, r)
			},
		},
		{
			name: "headers without end", want: "sts-policy-fetch-error",
			handler: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
				serve(enforce)(w, r)
			},
		},
		{
			name: "no policy", want: "sts-policy-invalid", why: "malformed policy",
			handler: serve("It works!\n"),
		},
		{
			name: "the connection is dropped", want: "sts-policy-fetch-error",
			handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.cert.Certificate == nil {
				c.cert = ordinary
			}
			if c.handler == nil {
				c.handler = serve(enforce)
			}
			host := at(t, "127.0.0.1:0", c.cert, c.tls, c.handler)
			_, cache := labDNS(t, "127.0.0.1")
			outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: host.port(t)})
			require.Equal(t, c.want, outcome, why)
			require.Contains(t, why, c.why)
			require.LessOrEqual(t, host.asked.Load(), int64(1), "a redirect is not followed, and nothing is tried twice")
		})
	}
}

func TestFetchAddresses(t *testing.T) {
	t.Parallel()
	ca, other := smtptest.NewCA(t), smtptest.NewCA(t)
	good, bad := ca.Names(t, "mta-sts.example.com"), other.Names(t, "mta-sts.example.com")
	// All hosts use the port of this one, each at its own address. There is no listener at 127.0.0.9.
	host := at(t, "127.0.0.1:0", good, nil, serve(enforce))
	port := host.port(t)
	on := func(address string, cert tls.Certificate, h http.HandlerFunc) *policyHost {
		return at(t, fmt.Sprintf("%s:%d", address, port), cert, nil, h)
	}
	on("127.0.0.2", bad, serve(enforce))
	on("127.0.0.3", good, http.NotFound)
	silent(t, fmt.Sprintf("127.0.0.4:%d", port))
	for _, c := range []struct {
		name  string
		addrs []string
		want  string
		why   string
	}{
		{"a refused connection: the next address", []string{"127.0.0.9", "127.0.0.1"}, fetched, ""},
		{"a wrong certificate: the next address", []string{"127.0.0.2", "127.0.0.1"}, fetched, ""},
		{"a host that hangs: the next address", []string{"127.0.0.4", "127.0.0.1"}, fetched, ""},
		{"an address family that does not work", []string{"::2", "127.0.0.1"}, fetched, ""},
		{"all refuse", []string{"127.0.0.9", "127.0.0.8"}, "sts-policy-fetch-error", "refused"},
		{"the wrong certificate is what is reported", []string{"127.0.0.2", "127.0.0.9"}, "sts-webpki-invalid", "unknown authority"},
		{"no policy there is the last word of a verified host", []string{"127.0.0.3"}, "sts-policy-fetch-error", "404"},
		{"no address", nil, "sts-policy-fetch-error", "no address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, cache := labDNS(t, c.addrs...)
			outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: port})
			require.Equal(t, c.want, outcome, why)
			require.Contains(t, why, c.why)
		})
	}
	t.Run("special-purpose addresses are refused", func(t *testing.T) {
		t.Parallel()
		_, cache := labDNS(t, "127.0.0.1", "::1", "10.0.0.1", "169.254.169.254")
		before := host.asked.Load()
		outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Port: port})
		require.Equal(t, "sts-policy-fetch-error", outcome, why)
		require.Contains(t, why, "special-purpose")
		require.LessOrEqual(t, before, host.asked.Load())
	})
	t.Run("the addresses cannot be looked up", func(t *testing.T) {
		t.Parallel()
		srv, cache := labDNS(t)
		srv.Set("mta-sts.example.com", dns.TypeA, dnstest.Answer{Rcode: "SERVFAIL"})
		outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: port})
		require.Equal(t, "sts-policy-fetch-error", outcome, why)
		require.Contains(t, why, "SERVFAIL")
	})
	t.Run("one family cannot be looked up", func(t *testing.T) {
		t.Parallel()
		srv, cache := labDNS(t, "127.0.0.1")
		srv.Set("mta-sts.example.com", dns.TypeAAAA, dnstest.Answer{Rcode: "SERVFAIL"})
		outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: port})
		require.Equal(t, fetched, outcome, why)
	})
	t.Run("a CNAME of the policy host", func(t *testing.T) {
		t.Parallel()
		srv, cache := labDNS(t)
		srv.Set("mta-sts.example.com", dns.TypeA, dnstest.Answer{Records: []string{
			"CNAME sts.provider.example.", "=sts.provider.example. A 127.0.0.1",
		}})
		outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: port})
		require.Equal(t, fetched, outcome, why)
	})
}

// silent accepts connections and sends nothing.
func silent(t testing.TB, address string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

func TestAFetchFromASlowHostTimesOut(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	over := make(chan struct{})
	host := at(t, "127.0.0.1:0", ca.Names(t, "mta-sts.example.com"), nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(over) })
	_, cache := labDNS(t, "127.0.0.1")
	outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: host.port(t)})
	require.Equal(t, "sts-policy-fetch-error", outcome, why)
	require.Contains(t, why, "deadline exceeded")
}

// A certificate that makes crypto/x509 panic in the handshake must not end the daemon.
func TestAPanicInTheHandshakeIsAFailure(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	host := at(t, "127.0.0.1:0", ca.Names(t, "mta-sts.example.com"), nil, serve(enforce))
	_, cache := labDNS(t, "127.0.0.1")
	roots := x509.NewCertPool()
	roots.AddCertWithConstraint(ca.Cert, func([]*x509.Certificate) error { panic("what a certificate") })
	outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: roots, Special: true, Port: host.port(t)})
	require.Equal(t, "sts-policy-fetch-error", outcome, why)
	require.Contains(t, why, "what a certificate")
}
