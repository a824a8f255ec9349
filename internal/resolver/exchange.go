package resolver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// exchanger sends a query to one server and returns its answer.
type exchanger interface {
	exchange(ctx context.Context, s Server, query *dns.Msg) (*dns.Msg, error)
}

// wire is the exchanger that speaks UDP, TCP and TLS.
type wire struct {
	roots *x509.CertPool // for TLS; nil: the system's
}

// newQuery makes the query of a security-aware stub: RD and AD set (RFC 6840 section 5.7), DO and CD clear.
func newQuery(name string, qtype, class uint16) *dns.Msg {
	const payload = 1232
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Question[0].Qclass = class
	m.AuthenticatedData = true
	m.SetEdns0(payload, false)
	return m
}

// exchange asks over UDP, and over TCP where the answer is truncated (RFC 7766): a truncated answer is never
// used, whatever its AD bit says.
func (w wire) exchange(ctx context.Context, s Server, query *dns.Msg) (*dns.Msg, error) {
	answer, err := w.once(ctx, s, query, s.TLSName != "")
	if err == nil && answer.Truncated {
		answer, err = w.once(ctx, s, query, true)
		if err == nil && answer.Truncated {
			err = errors.New("truncated answer over TCP")
		}
	}
	return answer, err
}

// once asks over one new connection or socket: a port of its own for every query (RFC 5452 section 9.2).
func (w wire) once(ctx context.Context, s Server, query *dns.Msg, stream bool) (*dns.Msg, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, s.network(stream), s.Addr.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if s.TLSName != "" {
		t := tls.Client(c, s.tlsConfig(w.roots))
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c = t
	}
	const largest = 4096
	conn := &dns.Conn{Conn: c, UDPSize: largest}
	if err := conn.WriteMsg(query); err != nil {
		return nil, err
	}
	for {
		answer, err := readMsg(conn)
		var network net.Error
		switch {
		case err == nil && matches(answer, query):
			return answer, nil
		case err != nil && (stream || errors.As(err, &network)):
			return nil, err
		}
		// A stray or forged datagram: the answer may still come.
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// readMsg reads one message; a message that makes the library panic is a malformed one.
func readMsg(conn *dns.Conn) (m *dns.Msg, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("malformed message: %v", p)
		}
	}()
	return conn.ReadMsg()
}

// matches says whether a message answers the query: ID, QR, opcode, name, class and type (RFC 5452 section 9.1).
func matches(answer, query *dns.Msg) bool {
	if answer.Id != query.Id || !answer.Response || answer.Opcode != query.Opcode || len(answer.Question) != 1 {
		return false
	}
	a, q := answer.Question[0], query.Question[0]
	return a.Qtype == q.Qtype && a.Qclass == q.Qclass && strings.EqualFold(a.Name, q.Name)
}

// timedOut says of an exchange's error that another try may help.
func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}
