package stub

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dnsmsg"
	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/text"
)

const (
	// maxDatagram is the largest answer that is read over UDP. Queries offer 1,232 octets; if a server exceeds even
	// maxDatagram, the query is sent again over TCP.
	maxDatagram = 4096
	// oneMore is how long a query still waits for a better datagram after one that answers it but cannot be used.
	oneMore = 200 * time.Millisecond
)

// server is a Server in use: its connections, and how it answers.
type server struct {
	Server
	tls *tls.Config // caches TLS sessions

	mu      sync.Mutex
	closed  bool
	idle    []*socket
	streams []*stream

	failing atomic.Bool // it did not answer the last query
	// logged is the problem that was logged last, "" after its end. A domain with slow name servers makes a server look
	// silent or late for a moment, as often as its owner likes. So a problem is logged at most once per minute, and its
	// end only if the problem was.
	logged string
	limit  oncelog.Limiter
}

// newServers returns the servers of a list, without connections.
func newServers(list []Server, roots *x509.CertPool) (servers []*server) {
	for _, s := range list {
		config := &tls.Config{ServerName: s.TLSName, RootCAs: roots, MinVersion: tls.VersionTLS12}
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		servers = append(servers, &server{Server: s, tls: config})
	}
	return servers
}

// exchange sends a query over UDP, and over TCP if the answer is truncated (RFC 7766). A truncated answer is never
// used, whatever its AD bit. A server with a TLS name is queried over TLS only. The error is dnsmsg.ErrMalformed,
// dnsmsg.ErrStray if only messages that do not answer the query came in time, context.DeadlineExceeded if none came, or
// comes from package net or ctx.
func (s *server) exchange(ctx context.Context, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
	if s.TLSName == "" {
		answer, err := s.overUDP(ctx, q, until)
		if err != nil || !answer.Truncated() {
			return answer, err
		}
	}
	answer, err := s.overStream(ctx, q, until)
	if err == nil && answer.Truncated() {
		return nil, errors.New("truncated answer over TCP")
	}
	return answer, err
}

// overUDP sends a query over an idle socket to a loopback address, or over a new one: a query to any other address has
// its own port (RFC 5452 section 9.2). After an error of an idle socket, which an earlier query may have caused, the
// query is sent again.
func (s *server) overUDP(ctx context.Context, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
	for {
		c, used, err := s.socket(ctx)
		if err != nil {
			return nil, err
		}
		_ = c.SetDeadline(until)
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		answer, err := c.ask(q, until)
		if !stop() {
			err = ctx.Err()
		}
		if err == nil {
			s.keep(c)
			return answer, nil
		}
		_ = c.Close() // the answer may still come
		if !used || ctx.Err() != nil || timedOut(err) || errors.Is(err, dnsmsg.ErrMalformed) {
			return nil, err
		}
	}
}

// buffers are for datagrams; a datagram that is longer than maxDatagram fills its buffer. A socket has no buffer of its
// own: thousands of sockets may be idle, or closed but not yet retired.
var buffers = sync.Pool{New: func() any { return new([maxDatagram + 1]byte) }}

// ask sends a query and waits for its answer until the read deadline. An attacker who has guessed ID and port must not
// gain anything by sending garbage first, so after an answer that cannot be used it waits a little longer for another.
func (c *socket) ask(q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
	buffer := buffers.Get().(*[maxDatagram + 1]byte)
	defer buffers.Put(buffer)
	query, err := q.Pack(buffer[:])
	if err != nil {
		return nil, err
	}
	_, _ = rand.Read(query[:2]) // never fails
	id := binary.BigEndian.Uint16(query)
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	// What is returned at the deadline: the first unusable answer, else dnsmsg.ErrStray if any other message came.
	var unusable *dnsmsg.Answer
	outcome, haveUnusable := context.DeadlineExceeded, false
	for {
		n, err := c.Read(buffer[:])
		switch {
		case timedOut(err):
			return unusable, outcome
		case err != nil:
			return nil, err
		case n > maxDatagram:
			buffer[2] |= 2 // set TC: the rest of the datagram is lost
		}
		answer, err := dnsmsg.Read(buffer[:n], id, q)
		switch {
		case err == nil && answer.HasQuestion():
			return answer, nil
		case haveUnusable:
		case errors.Is(err, dnsmsg.ErrStray):
			outcome = err
		default:
			unusable, outcome, haveUnusable = answer, err, true
			_ = c.SetReadDeadline(time.Now().Add(min(oneMore, time.Until(until))))
		}
	}
}

// timedOut reports whether err means that no answer arrived in time, also if messages came that do not answer the
// query: another try may help.
func timedOut(err error) bool {
	network, is := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, dnsmsg.ErrStray) || is && network.Timeout()
}

// networkReason returns in a few words why a query failed, in printable ASCII.
func networkReason(err error) string {
	message := err.Error()
	switch {
	case errors.Is(err, dnsmsg.ErrStray):
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
