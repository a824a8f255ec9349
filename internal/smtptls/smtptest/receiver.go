package smtptest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Behaviour is how a Receiver behaves. The zero Behaviour greets, takes EHLO and QUIT, and has no TLS.
type Behaviour struct {
	// Cert is what TLS is spoken with; nil for none.
	Cert *tls.Certificate
	// Implicit begins with TLS; otherwise STARTTLS is offered where there is a Cert.
	Implicit bool
	// Banner and EHLO are the replies, "220 receiver" and a list with STARTTLS where it fits unless set. HELO is 502
	// unless set.
	Banner, EHLO, HELO string
	// STARTTLS is the reply to it, "220 go ahead" unless set. What follows a line end in it is sent in the clear.
	STARTTLS string
	// Stall goes silent instead of the "banner" or of the "handshake"; Drop hangs up there.
	Stall, Drop string
	// Delay precedes the banner.
	Delay time.Duration
	// InTLS is the reply to EHLO within TLS after STARTTLS; that to EHLO unless set.
	InTLS string
	// TLS does the handshake in place of crypto/tls and returns the plaintext side, nil after a failure.
	TLS func(net.Conn) net.Conn
	// Ciphers are the cipher suites up to TLS 1.2; nil for the default.
	Ciphers []uint16
	// MaxVersion is the newest TLS version that is spoken; 0 for all.
	MaxVersion uint16
}

// Session is one connection that a receiver had.
type Session struct {
	TLS   bool     // a handshake was completed
	SNI   string   // the server name of the client hello
	Raw   []byte   // the bytes from the client as anyone on the path sees them
	Mails []string // the texts of the accepted mails
}

// Receiver is an SMTP server that delivers no mail.
type Receiver struct {
	listener net.Listener
	all      sync.WaitGroup

	mu        sync.Mutex
	behaviour Behaviour
	commands  []string
	sessions  []*Session
	conns     map[net.Conn]bool
	most      int
	closed    bool
}

// Start starts a receiver at address, such as "127.0.0.1:0", and stops it with the test.
func Start(t testing.TB, address string, b Behaviour) *Receiver {
	t.Helper()
	r, err := Listen(address, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Listen starts a receiver at address. Close it.
func Listen(address string, b Behaviour) (*Receiver, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	r := &Receiver{listener: l, behaviour: b, conns: map[net.Conn]bool{}}
	r.all.Go(r.accept)
	return r, nil
}

// Sessions returns a copy of all sessions so far.
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

// note calls change with the lock held.
func (r *Receiver) note(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// recorder keeps the bytes that were read from a connection.
type recorder struct {
	net.Conn
	receiver *Receiver
	session  *Session
}

func (c recorder) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.receiver.note(func() { c.session.Raw = append(c.session.Raw, p[:n]...) })
	return n, err
}

// Addr returns where it listens.
func (r *Receiver) Addr() netip.AddrPort { return netip.MustParseAddrPort(r.listener.Addr().String()) }

// Commands returns what was said to it, in order, over all connections.
func (r *Receiver) Commands() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commands)
}

// SNI returns the server names of the handshakes.
func (r *Receiver) SNI() (names []string) {
	for _, s := range r.Sessions() {
		if s.SNI != "" {
			names = append(names, s.SNI)
		}
	}
	return names
}

// Connections returns how many it has taken.
func (r *Receiver) Connections() int { return len(r.Sessions()) }

// Most returns the highest number of concurrent connections.
func (r *Receiver) Most() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// Close stops it and cuts all connections.
func (r *Receiver) Close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.all.Wait()
}

func (r *Receiver) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		b, session := r.behaviour, &Session{}
		r.sessions = append(r.sessions, session)
		r.conns[conn] = true
		r.most = max(r.most, len(r.conns))
		if r.closed {
			_ = conn.Close()
		}
		r.mu.Unlock()
		r.all.Go(func() {
			r.serve(recorder{conn, r, session}, session, b)
			r.note(func() { delete(r.conns, conn) })
			_ = conn.Close()
		})
	}
}

func (r *Receiver) serve(conn net.Conn, session *Session, b Behaviour) {
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if b.Implicit {
		if conn = r.secure(conn, session, b); conn == nil {
			return
		}
	}
	switch "banner" {
	case b.Stall:
		_, _ = io.Copy(io.Discard, conn)
		return
	case b.Drop:
		return
	}
	if b.Delay > 0 {
		timer := time.NewTimer(b.Delay)
		defer timer.Stop()
		<-timer.C
	}
	say(conn, b.Banner, "220 receiver")
	ehlo := "250-receiver\r\n250-SIZE 10240000\r\n250 8BITMIME"
	if b.Cert != nil && !b.Implicit {
		ehlo = "250-receiver\r\n250-SIZE 10240000\r\n250 STARTTLS"
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		r.note(func() { r.commands = append(r.commands, line) })
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case verb == "EHLO":
			say(conn, b.EHLO, ehlo)
		case verb == "HELO":
			say(conn, b.HELO, "502 not implemented")
		case verb == "MAIL" || verb == "RCPT" || verb == "RSET" || verb == "NOOP":
			say(conn, "250 ok", "")
		case verb == "DATA":
			say(conn, "354 send it", "")
			mail, err := textproto.NewReader(lines).ReadDotBytes()
			if err != nil {
				return
			}
			r.note(func() { session.Mails = append(session.Mails, string(mail)) })
			say(conn, "250 the receiver has it", "")
		case verb == "QUIT":
			say(conn, "221 bye", "")
			return
		case verb == "STARTTLS" && b.Cert != nil:
			say(conn, b.STARTTLS, "220 go ahead")
			if b.STARTTLS != "" && !strings.HasPrefix(b.STARTTLS, "2") {
				continue
			}
			if conn = r.secure(conn, session, b); conn == nil {
				return
			}
			lines = bufio.NewReader(conn)
			b.EHLO = cmp.Or(b.InTLS, b.EHLO)
		default:
			say(conn, "502 not implemented", "")
		}
	}
}

// secure does the handshake, or what is done instead; then it returns nil.
func (r *Receiver) secure(conn net.Conn, session *Session, b Behaviour) net.Conn {
	switch "handshake" {
	case b.Stall:
		_, _ = io.Copy(io.Discard, conn)
		return nil
	case b.Drop:
		return nil
	}
	if b.TLS != nil {
		return b.TLS(conn)
	}
	config := &tls.Config{MaxVersion: b.MaxVersion, CipherSuites: b.Ciphers,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			r.note(func() { session.SNI = hello.ServerName })
			return b.Cert, nil
		}}
	config.MinVersion = tls.VersionTLS10 // a receiver of the past is one of the cases
	secured := tls.Server(conn, config)
	if secured.HandshakeContext(context.Background()) != nil {
		return nil
	}
	r.note(func() { session.TLS = true })
	return secured
}

func say(w io.Writer, line, otherwise string) {
	if line == "" {
		line = otherwise
	}
	_, _ = io.WriteString(w, line+"\r\n")
}
