package stub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/text"
)

// errStrays is joined to a timeout during which only messages arrived that do not fit.
var errStrays = errors.New("only messages that do not answer the query came")

// exchanger sends a query to one server and returns its answer. The error is errMalformed, or one of package net or
// of ctx.
type exchanger interface {
	exchange(ctx context.Context, s Server, query *miekg.Msg) (*miekg.Msg, error)
}

// transport is the exchanger that uses UDP, TCP and TLS. It belongs to one list of servers.
type transport struct {
	sockets sockets
	streams streams
}

func newTransport(roots *x509.CertPool) *transport {
	sessions := tls.NewLRUClientSessionCache(maxServers)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: sessions}
	return &transport{streams: streams{tls: config, open: map[Server][]*stream{}}}
}

// exchange asks over UDP, and over TCP if the answer is truncated (RFC 7766): a truncated answer is never used,
// whatever its AD bit says. A server with a TLS name is asked over TLS only.
func (t *transport) exchange(ctx context.Context, s Server, query *miekg.Msg) (*miekg.Msg, error) {
	if s.TLSName == "" {
		answer, err := t.sockets.exchange(ctx, s.Addr, query)
		if err != nil || !answer.Truncated {
			return answer, err
		}
	}
	answer, err := t.streams.exchange(ctx, s, query)
	if err == nil && answer.Truncated {
		return nil, errors.New("truncated answer over TCP")
	}
	return answer, err
}

// sockets are UDP sockets that wait for their next query. Only sockets that are connected to a loopback address are
// used again, with one query at a time: a query to any other address has a port of its own (RFC 5452 section 9.2).
type sockets struct {
	mu   sync.Mutex
	idle []*socket
}

type socket struct {
	net.Conn
	server  netip.AddrPort
	opened  time.Time
	queries int
	buffer  [maxDatagram + 1]byte
}

const (
	// maxDatagram is the largest answer that is read over UDP. For one that is larger than the 1,232 octets that a query
	// offers, and even than this, the server is asked again over TCP.
	maxDatagram = 4096
	// A socket is closed after so many queries, or so long after it was opened: an attacker must not have long to find
	// out its port.
	socketQueries = 64
	socketLife    = 10 * time.Second
	maxIdle       = 64
	// oneMore is how long a message that fits but cannot be used leaves for another one to arrive. A forger who has
	// guessed ID and port so gains nothing by sending rubbish first.
	oneMore = 200 * time.Millisecond
)

// exchange sends a query and reads until the answer is there. Messages that do not fit are ignored.
func (p *sockets) exchange(ctx context.Context, server netip.AddrPort, query *miekg.Msg) (*miekg.Msg, error) {
	s, err := p.take(ctx, server)
	if err != nil {
		return nil, endOf(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	answer, err := s.exchange(ctx, query)
	// After a failure a late answer may still arrive, so the socket is not used again.
	if stop() && err == nil {
		p.put(s)
	} else {
		_ = s.Close()
	}
	return answer, err
}

func (s *socket) exchange(ctx context.Context, query *miekg.Msg) (*miekg.Msg, error) {
	octets, err := query.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(octets); err != nil {
		return nil, endOf(ctx, err)
	}
	var unusable *miekg.Msg // an error without a question
	var failure error       // a malformed answer
	strays := false
	for {
		n, err := s.Read(s.buffer[:])
		if err != nil {
			switch {
			case unusable != nil:
				return unusable, nil
			case failure != nil:
				return nil, failure
			case strays:
				return nil, fmt.Errorf("%w: %w", errStrays, endOf(ctx, err))
			}
			return nil, endOf(ctx, err)
		}
		answer, err := parse(s.buffer[:n])
		fits := matches(answer, query)
		switch {
		case fits && n > maxDatagram:
			answer.Truncated = true
			return answer, nil
		case fits && (err == nil || answer.Truncated):
			return answer, nil
		case fits:
			failure = errMalformed
		case err == nil && bareError(answer, query):
			unusable = answer
		default:
			strays = true
			continue
		}
		if ctx.Err() == nil {
			_ = s.SetReadDeadline(time.Now().Add(oneMore))
		}
	}
}

// take returns a socket that is connected to the server.
func (p *sockets) take(ctx context.Context, server netip.AddrPort) (*socket, error) {
	p.mu.Lock()
	i := slices.IndexFunc(p.idle, func(s *socket) bool { return s.server == server && !s.old() })
	if i >= 0 {
		s := p.idle[i]
		p.idle = slices.Delete(p.idle, i, i+1)
		p.mu.Unlock()
		return s, nil
	}
	p.mu.Unlock()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", server.String())
	if err != nil {
		return nil, err
	}
	return &socket{Conn: conn, server: server, opened: time.Now()}, nil
}

// put keeps a socket for the next query.
func (p *sockets) put(s *socket) {
	s.queries++
	p.mu.Lock()
	defer p.mu.Unlock()
	full := len(p.idle) >= maxIdle
	if !s.server.Addr().Unmap().IsLoopback() || s.old() || full || s.SetReadDeadline(time.Time{}) != nil {
		_ = s.Close()
		return
	}
	p.idle = append(p.idle, s)
}

func (s *socket) old() bool { return s.queries >= socketQueries || time.Since(s.opened) > socketLife }

// closeOld closes the sockets that have been open for too long.
func (p *sockets) closeOld() { p.closeIf((*socket).old) }

func (p *sockets) close() { p.closeIf(func(*socket) bool { return true }) }

func (p *sockets) closeIf(f func(*socket) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.idle[:0]
	for _, s := range p.idle {
		if f(s) {
			_ = s.Close()
		} else {
			kept = append(kept, s)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
}

// endOf returns why ctx has ended, if it has, and else err: the deadline that ends a read does not tell its cause.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// timedOut reports whether err means that there was no answer in time: another try may help.
func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// networkReason says in a few words why a server could not be asked, in printable ASCII.
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
