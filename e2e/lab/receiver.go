package lab

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Behaviour is what a port of a receiver does.
type Behaviour uint8

// The behaviours. The zero value is a closed port.
const (
	Closed    Behaviour = iota
	STARTTLS            // plaintext first, with STARTTLS in the EHLO reply
	Clear               // SMTP without STARTTLS, or with STARTTLS stripped by an attacker
	Refuses             // STARTTLS in the EHLO reply, but the reply to the command is 454
	Implicit            // TLS from the first byte
	StallsTLS           // TCP and, on 25, the 220 to STARTTLS; then not one byte of the handshake
	BlackHole           // no answer even to the SYN
)

// Service is one port: what it does, and the certificate it does it with.
type Service struct {
	Behaviour   Behaviour
	Certificate *tls.Certificate
}

// Session is one connection that a receiver had.
type Session struct {
	Addr     netip.Addr // of the receiver
	Port     int
	TLS      bool   // a handshake was completed
	Implicit bool   // the handshake came first
	SNI      string // server name of the client hello
	Raw      []byte // the bytes on the wire, as anyone on the path sees them
	Mails    []Mail // what was accepted
}

// Mail is one message that a receiver accepted.
type Mail struct {
	From, To string
	Data     []byte
}

// Receiver is the SMTP server of one MX host. It behaves the same on all its addresses.
type Receiver struct {
	Name  string
	Addrs []netip.Addr

	mu       sync.Mutex
	sessions []*Session
	ports    map[int]*port
	closed   bool
}

// port is the listeners of one Service and the connections that they accepted.
type port struct {
	service   Service
	listeners []net.Listener
	holes     []*hole
	conns     map[net.Conn]bool
}

// NewReceiver returns a receiver with all ports closed.
func NewReceiver(name string, addrs []netip.Addr) *Receiver {
	return &Receiver{Name: name, Addrs: addrs, ports: map[int]*port{}}
}

// Serve changes the behaviour of a port and closes its connections.
func (r *Receiver) Serve(number int, s Service) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(number)
	if r.closed || s.Behaviour == Closed {
		return nil
	}
	p := &port{service: s, conns: map[net.Conn]bool{}}
	r.ports[number] = p
	for _, a := range r.Addrs {
		at := netip.AddrPortFrom(a, uint16(number))
		if s.Behaviour == BlackHole {
			h, err := dig(at)
			if err != nil {
				return fmt.Errorf("lab: %s: %w", r.Name, err)
			}
			p.holes = append(p.holes, h)
			continue
		}
		l, err := net.Listen("tcp", at.String())
		if err != nil {
			return fmt.Errorf("lab: %s: %w", r.Name, err)
		}
		p.listeners = append(p.listeners, l)
		go r.accept(p, l, at)
	}
	return nil
}

// Certificate returns the certificate of a port.
func (r *Receiver) Certificate(number int) *tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ports[number].service.Certificate
}

// end closes a port; r.mu is held.
func (r *Receiver) end(number int) {
	p := r.ports[number]
	if p == nil {
		return
	}
	delete(r.ports, number)
	for _, l := range p.listeners {
		_ = l.Close()
	}
	for _, h := range p.holes {
		h.close()
	}
	for c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// Close closes all ports.
func (r *Receiver) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for number := range r.ports {
		r.end(number)
	}
}

// Sessions returns a copy of the connections so far that said something or completed a handshake.
func (r *Receiver) Sessions() []Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Session
	for _, s := range r.sessions {
		c := *s
		c.Raw, c.Mails = bytes.Clone(s.Raw), slices.Clone(s.Mails)
		all = append(all, c)
	}
	return all
}

// Seen reports whether text ever crossed the wire to the receiver where anybody on the path could read it.
func (r *Receiver) Seen(text string) bool {
	return slices.ContainsFunc(r.Sessions(), func(s Session) bool {
		return bytes.Contains(bytes.ToLower(s.Raw), bytes.ToLower([]byte(text)))
	})
}

// Got returns the sessions that accepted a mail with text in it.
func (r *Receiver) Got(text string) []Session {
	var got []Session
	for _, s := range r.Sessions() {
		if slices.ContainsFunc(s.Mails, func(m Mail) bool { return bytes.Contains(m.Data, []byte(text)) }) {
			got = append(got, s)
		}
	}
	return got
}

func (r *Receiver) accept(p *port, l net.Listener, at netip.AddrPort) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		if p.conns == nil {
			r.mu.Unlock()
			_ = c.Close()
			return
		}
		p.conns[c] = true
		session := &Session{Addr: at.Addr(), Port: int(at.Port())}
		r.sessions = append(r.sessions, session)
		r.mu.Unlock()
		go func() {
			d := &dialogue{receiver: r, service: p.service, session: session,
				wire: &recorder{Conn: c, receiver: r, session: session}}
			d.run()
			_ = c.Close()
			r.mu.Lock()
			delete(p.conns, c)
			r.mu.Unlock()
		}()
	}
}

// recorder keeps what was read from a connection.
type recorder struct {
	net.Conn
	receiver *Receiver
	session  *Session
}

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.receiver.mu.Lock()
	c.session.Raw = append(c.session.Raw, p[:n]...)
	c.receiver.mu.Unlock()
	return n, err
}
