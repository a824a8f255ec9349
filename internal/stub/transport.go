package stub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/text"
)

const (
	// maxUseless is how often a query is sent again after a TCP connection was lost without having answered anything. A
	// server that accepts one query per connection may reset it while the answer is in transit.
	maxUseless = 5
	maxStreams = 3 // TCP connections per server
)

// transport sends queries over UDP, TCP and TLS. It belongs to one list of servers.
//
// A TCP or TLS connection stays open for further queries. A server has one, and a few more if it answers the queries of
// a connection one after the other and one of them stalls. A UDP socket to a loopback address is also reused. A UDP
// query to any other address has its own port (RFC 5452 section 9.2).
type transport struct {
	tls *tls.Config // without a server name; it caches TLS sessions

	mu   sync.Mutex
	open map[route][]*link
}

// route is a server and the transport of its queries.
type route struct {
	Server
	udp bool
}

func newTransport(roots *x509.CertPool) *transport {
	sessions := tls.NewLRUClientSessionCache(maxServers)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: sessions}
	return &transport{tls: config, open: map[route][]*link{}}
}

// exchange sends a query over UDP, and over TCP if the answer is truncated (RFC 7766). A truncated answer is never
// used, whatever its AD bit. A server with a TLS name is queried over TLS only. The error is errMalformed,
// context.DeadlineExceeded if there is no answer until then, or comes from package net or ctx.
func (t *transport) exchange(ctx context.Context, s Server, q miekg.Question, until time.Time) (*miekg.Msg, error) {
	if s.TLSName == "" {
		answer, err := t.ask(ctx, route{s, true}, q, until)
		if err != nil || !answer.Truncated {
			return answer, err
		}
	}
	answer, err := t.ask(ctx, route{s, false}, q, until)
	if err == nil && answer.Truncated {
		return nil, errors.New("truncated answer over TCP")
	}
	return answer, err
}

// ask sends a query over an open connection, or a new one. A query whose connection is lost is sent again until its
// time is over, but only a few times if no connection answers anything: an old connection that is closed, or a server
// that restarts, is not a failure. An error on a new UDP socket is a failure.
func (t *transport) ask(ctx context.Context, r route, q miekg.Question, until time.Time) (*miekg.Msg, error) {
	octets, err := pack(q)
	if err != nil {
		return nil, err
	}
	most := maxUseless
	if r.udp {
		most = 0
	}
	for useless := 0; ; {
		p := newPending(q, until)
		c := t.get(r, p)
		answer, err := c.ask(ctx, p, octets)
		if err == nil || ctx.Err() != nil || !lost(err) {
			return answer, err
		}
		if c.useless() {
			if useless++; useless > most {
				return nil, err
			}
		}
	}
}

// lost reports whether err means that the connection was closed.
func lost(err error) bool {
	is := func(target error) bool { return errors.Is(err, target) }
	return slices.ContainsFunc([]error{errLost, syscall.ECONNRESET, syscall.EPIPE, io.EOF}, is)
}

// get adds a query to a connection: an open one, or one that is being made.
func (t *transport) get(r route, p *pending) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	open := slices.DeleteFunc(t.open[r], (*link).over)
	i := slices.IndexFunc(open, (*link).free)
	if i < 0 && (r.udp || len(open) < maxStreams) {
		i, open = len(open), append(open, newLink(r))
		go open[i].run(t.tls)
	}
	t.open[r] = open
	c := open[max(i, 0)]
	c.add(p)
	return c
}

func newLink(r route) *link {
	c := &link{route: r, ready: make(chan struct{}), waiting: map[uint16]*pending{}, left: math.MaxInt}
	switch {
	case r.udp && r.Addr.Addr().Unmap().IsLoopback():
		c.left, c.until = socketQueries, time.Now().Add(socketLife)
	case r.udp:
		c.left = 1
	}
	return c
}

// close closes each connection when no query uses it any more.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, open := range t.open {
		for _, c := range open {
			c.retire()
		}
	}
	clear(t.open)
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
	case timedOut(err) && errors.Is(err, errStrays):
		return "timed out, " + errStrays.Error()
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
