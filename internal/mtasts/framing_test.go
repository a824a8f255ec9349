package mtasts_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// RFC 9112 section 9.8: a response that ends with the connection is complete only after a TLS close_notify alert. An
// attacker on the path who cuts the connection must not remove the last mx of a policy. RFC 9112 section 8: a response
// that is shorter than its framing says is incomplete.
func TestATruncatedResponseIsRefused(t *testing.T) {
	t.Parallel()
	const status = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	const old = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
	for _, c := range []struct {
		name     string
		response string
		cut      bool // the connection is closed without close_notify
		want     string
		why      string
	}{
		{"until close_notify", status + "Connection: close\r\n\r\n" + enforce, false, fetched, ""},
		{"until close_notify, HTTP/1.0", old + "\r\n" + enforce, false, fetched, ""},
		{"until the connection is cut", status + "Connection: close\r\n\r\n" + enforce, true, "sts-policy-fetch-error", "close_notify"},
		{"until the connection is cut, HTTP/1.0", old + "\r\n" + enforce, true, "sts-policy-fetch-error", "close_notify"},
		{"cut in the headers", status, true, "sts-policy-fetch-error", "close_notify"},
		{"cut before the response", "", true, "sts-policy-fetch-error", "close_notify"},
		{"Content-Length", status + "Content-Length: 63\r\n\r\n" + enforce, true, fetched, ""},
		{"Content-Length, HTTP/1.0", old + "Content-Length: 63\r\n\r\n" + enforce, true, fetched, ""},
		{"shorter than Content-Length", status + "Content-Length: 90\r\n\r\n" + enforce, false, "sts-policy-fetch-error", "unexpected EOF"},
		{"shorter than Content-Length and cut", status + "Content-Length: 90\r\n\r\n" + enforce, true, "sts-policy-fetch-error", "close_notify"},
		{"shorter than Content-Length, HTTP/1.0", old + "Content-Length: 90\r\n\r\n" + enforce, false, "sts-policy-fetch-error", "unexpected EOF"},
		{"two lengths", status + "Content-Length: 63\r\nContent-Length: 90\r\n\r\n" + enforce, false, "sts-policy-fetch-error", "Content-Length"},
		{"a negative length", status + "Content-Length: -1\r\n\r\n" + enforce, false, "sts-policy-fetch-error", "Content-Length"},
		{"chunks", status + "Transfer-Encoding: chunked\r\n\r\n3f\r\n" + enforce + "\r\n0\r\n\r\n", true, fetched, ""},
		{"no last chunk", status + "Transfer-Encoding: chunked\r\n\r\n3f\r\n" + enforce + "\r\n", false, "sts-policy-fetch-error", "unexpected EOF"},
		{"no last chunk and cut", status + "Transfer-Encoding: chunked\r\n\r\n3f\r\n" + enforce + "\r\n", true, "sts-policy-fetch-error", "close_notify"},
		{"cut within a chunk", status + "Transfer-Encoding: chunked\r\n\r\n" + "3f\r\n" + enforce[:40], false, "sts-policy-fetch-error", "unexpected EOF"},
		{"a malformed chunk", status + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + enforce, false, "sts-policy-fetch-error", "chunk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, enforce, 0x3f)
			ca := smtptest.NewCA(t)
			host := at(t, "127.0.0.1:0", ca.Names(t, "mta-sts.example.com"), nil, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, c.response)
				if secured, ok := conn.(*tls.Conn); ok && c.cut {
					_ = secured.NetConn().Close()
				}
				_ = conn.Close()
			})
			_, cache := labDNS(t, "127.0.0.1")
			outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: host.port(t)})
			require.Equal(t, c.want, outcome, why)
			require.Contains(t, why, c.why)
		})
	}
}

// Policies are fetched over HTTP/1.1, also from a host that prefers HTTP/2.
func TestAnHTTP2HostServesHTTP1(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	host := at(t, "127.0.0.1:0", ca.Names(t, "mta-sts.example.com"), func(c *tls.Config) {
		c.NextProtos = []string{"h2", "http/1.1"}
	}, serve(enforce))
	_, cache := labDNS(t, "127.0.0.1")
	outcome, why := fetch(t, mtasts.Fetcher{Resolver: cache, Roots: ca.Roots, Special: true, Port: host.port(t)})
	require.Equal(t, fetched, outcome, why)
}
