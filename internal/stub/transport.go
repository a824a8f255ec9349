package stub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/text"
)

// transport sends queries to the servers of one list, over UDP, TCP and TLS.
type transport struct {
	tls *tls.Config // without a server name; it caches TLS sessions

	mu      sync.Mutex
	idle    map[Server][]*socket
	streams map[Server][]*stream
	closed  bool // sockets do not become idle any more
}

func newTransport(roots *x509.CertPool) *transport {
	sessions := tls.NewLRUClientSessionCache(maxServers)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: sessions}
	return &transport{tls: config, idle: map[Server][]*socket{}, streams: map[Server][]*stream{}}
}

// exchange sends a query over UDP, and over TCP if the answer is truncated (RFC 7766). A truncated answer is never
// used, whatever its AD bit. A server with a TLS name is queried over TLS only. The error is errMalformed,
// context.DeadlineExceeded if there is no answer until then, or comes from package net or ctx.
func (t *transport) exchange(ctx context.Context, s Server, q miekg.Question, until time.Time) (*miekg.Msg, error) {
	if s.TLSName == "" {
		answer, err := t.overUDP(ctx, s, q, until)
		if err != nil || !answer.Truncated {
			return answer, err
		}
	}
	answer, err := t.overStream(ctx, s, q, until)
	if err == nil && answer.Truncated {
		return nil, errors.New("truncated answer over TCP")
	}
	return answer, err
}

// close closes all connections. A query that waits on a TCP connection is sent again over a new one.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, idle := range t.idle {
		for _, c := range idle {
			_ = c.Close()
		}
	}
	for _, open := range t.streams {
		for _, c := range open {
			c.end(errLost)
		}
	}
	clear(t.idle)
	clear(t.streams)
}

// timedOut reports whether err means that no answer arrived in time: another try may help.
func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// networkReason returns in a few words why a query failed, in printable ASCII.
func networkReason(err error) string {
	message := err.Error()
	switch {
	case errors.Is(err, errStray):
		return "timed out, only messages that do not answer the query came"
	case timedOut(err):
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is signed by an unknown authority"
	}
	if i := strings.LastIndex(message, ": "); i >= 0 {
		message = message[i+2:]
	}
	return text.Printable(message)
}
