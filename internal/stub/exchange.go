package stub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

// exchanger sends a query to one server and returns its answer.
type exchanger interface {
	exchange(ctx context.Context, s Server, query *miekg.Msg) (*miekg.Msg, error)
}

// wire is the exchanger that speaks UDP, TCP and TLS.
type wire struct {
	roots   *x509.CertPool // for TLS; nil: the system's
	buffers *sync.Pool     // of *datagram
}

// datagram has room for a message over UDP. We ask for less.
type datagram [4096]byte

// newQuery makes the query of a security-aware stub: RD and AD set (RFC 6840 section 5.7), DO and CD clear.
func newQuery(name string, qtype, class uint16) *miekg.Msg {
	const payload = 1232
	m := new(miekg.Msg)
	m.SetQuestion(name, qtype)
	m.Question[0].Qclass = class
	m.AuthenticatedData = true
	m.SetEdns0(payload, false)
	return m
}

// exchange asks over UDP, and over TCP where the answer is truncated (RFC 7766): a truncated answer is never
// used, whatever its AD bit says.
func (w wire) exchange(ctx context.Context, s Server, query *miekg.Msg) (*miekg.Msg, error) {
	stream := s.TLSName != ""
	answer, err := w.once(ctx, s, query, stream)
	if err == nil && answer.Truncated && !stream {
		stream = true
		answer, err = w.once(ctx, s, query, stream)
	}
	if err == nil && answer.Truncated {
		return nil, errors.New("truncated answer over TCP")
	}
	return answer, err
}

// once asks over one new connection or socket: a port of its own for every query (RFC 5452 section 9.2).
func (w wire) once(ctx context.Context, s Server, query *miekg.Msg, stream bool) (*miekg.Msg, error) {
	var dialer net.Dialer
	network := "udp"
	if stream {
		network = "tcp"
	}
	socket, err := dialer.DialContext(ctx, network, s.Addr.String())
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer func() { _ = socket.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := &miekg.Conn{Conn: socket}
	if s.TLSName != "" {
		secured := tls.Client(socket, s.tlsConfig(w.roots))
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, ended(ctx, fmt.Errorf("TLS: %w", err))
		}
		conn.Conn = secured
	}
	if err := conn.WriteMsg(query); err != nil {
		return nil, ended(ctx, err)
	}
	read := func() (*miekg.Msg, error) { return readStream(conn) }
	if !stream {
		buffer, _ := w.buffers.Get().(*datagram)
		if buffer == nil {
			buffer = new(datagram)
		}
		defer w.buffers.Put(buffer) // no message keeps a part of it
		read = func() (*miekg.Msg, error) { return readDatagram(socket, buffer) }
	}
	return await(ctx, query, stream, read)
}

// readDatagram is what ReadMsg of the library does for UDP, without making a buffer for every message.
func readDatagram(socket net.Conn, buffer *datagram) (*miekg.Msg, error) {
	n, err := socket.Read(buffer[:])
	if err != nil {
		return nil, err
	}
	return unpack(buffer[:n])
}

// readStream reads a message over TCP or TLS.
func readStream(conn *miekg.Conn) (*miekg.Msg, error) {
	octets, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	return unpack(octets)
}

// unpack reads a message, all of it: the library takes one that ends too soon for one that has no more records.
func unpack(octets []byte) (*miekg.Msg, error) {
	m := new(miekg.Msg)
	if err := m.Unpack(octets); err != nil {
		return nil, err
	}
	if m.IsTsig() != nil { // nobody has a key
		return nil, miekg.ErrSecret
	}
	const counts = 4 // where in the header they begin
	for i, n := range []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if n != int(binary.BigEndian.Uint16(octets[counts+2*i:])) {
			return nil, miekg.ErrShortRead
		}
	}
	return m, nil
}

// await reads until the answer to the query is there. What else arrives, stray, forged or no message at all, is passed
// over: the answer may still come.
func await(ctx context.Context, query *miekg.Msg, stream bool, read func() (*miekg.Msg, error)) (*miekg.Msg, error) {
	for strays := 0; ; strays++ {
		answer, err := readMsg(read)
		var network net.Error
		switch {
		case err == nil && matches(answer, query):
			return answer, nil
		case err != nil && (stream || errors.As(err, &network)):
			if err = ended(ctx, err); strays > 0 {
				err = fmt.Errorf("only messages that are no answer came: %w", err)
			}
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}

// ended returns why ctx has ended, if it has, and else err: the deadline that ends a read says nothing of its cause.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// readMsg reads one message; a message that makes the library panic is a malformed one.
func readMsg(read func() (*miekg.Msg, error)) (m *miekg.Msg, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("malformed message: %v", p)
		}
	}()
	return read()
}

// matches says whether a message answers the query: ID, QR, opcode, name, class and type (RFC 5452 section 9.1).
func matches(answer, query *miekg.Msg) bool {
	if answer.Id != query.Id || !answer.Response || answer.Opcode != query.Opcode || len(answer.Question) != 1 {
		return false
	}
	a, q := answer.Question[0], query.Question[0]
	return a.Qtype == q.Qtype && a.Qclass == q.Qclass && dns.Lower(a.Name) == dns.Lower(q.Name)
}

// timedOut says of an exchange's error that there was no answer in time: another try may help.
func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// networkReason says in a few words why a server could not be asked.
func networkReason(err error) string {
	message := err.Error()
	head, _, strays := strings.Cut(message, ": "+context.DeadlineExceeded.Error())
	switch {
	case timedOut(err) && strays:
		return "timed out, " + text.Printable(head)
	case timedOut(err):
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is of an unknown authority"
	}
	if i := strings.LastIndex(message, ": "); i >= 0 {
		message = message[i+2:]
	}
	return text.Printable(message)
}
