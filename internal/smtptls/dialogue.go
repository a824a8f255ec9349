// Package smtptls talks to one address of a mail server, with STARTTLS (RFC 3207) or with implicit TLS (RFC 8314),
// as far as EHLO within TLS, and judges what it showed. Talk returns a Transcript: every step, the certificate and
// the first failure with its cause. It never sends MAIL FROM.
//
// The verdict is as strict as Postfix with "secure match=<host> servername=hostname", or stricter. A failure on our
// side (no route, no time left) is marked as ours and says nothing about the server.
package smtptls

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Dialogue says how to talk to one address of a host: as far as is needed to see whether mail could be handed
// over under TLS, and no further. It never sends MAIL FROM.
type Dialogue struct {
	// Host is sent as SNI, and the certificate must be for it.
	Host string
	Addr netip.AddrPort
	// Implicit is for TLS before everything else (RFC 8314 section 3); otherwise it is STARTTLS (RFC 3207).
	Implicit bool
	// Helo is how we introduce ourselves; "" means the literal of our own address (RFC 5321 section 4.1.4).
	Helo string
	// Roots and At are as in Trust.
	Roots *x509.CertPool
	At    time.Time
	// Connect, Each and Whole bound the connect, each later step and the whole; zero means 10 s, 20 s and 60 s.
	Connect, Each, Whole time.Duration
}

// Talk has the dialogue. It ends when ctx does, and then says that it failed on our side.
func Talk(ctx context.Context, d Dialogue) Transcript {
	for _, limit := range []struct {
		of        *time.Duration
		otherwise time.Duration
	}{{&d.Connect, 10 * time.Second}, {&d.Each, 20 * time.Second}, {&d.Whole, 60 * time.Second}} {
		if *limit.of <= 0 {
			*limit.of = limit.otherwise
		}
	}
	c := conversation{Dialogue: d, caller: ctx, t: Transcript{Addr: d.Addr, Implicit: d.Implicit, Began: time.Now()}}
	ctx, cancel := context.WithTimeout(ctx, d.Whole)
	defer cancel()
	if c.step(StepConnect, func() error { return c.connect(ctx) }) {
		stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
		c.talk(ctx)
		stop()
		_ = c.conn.Close()
	}
	c.t.Took = time.Since(c.t.Began)
	return c.t
}

// conversation is a Dialogue under way.
type conversation struct {
	Dialogue
	caller context.Context
	conn   net.Conn // as it came from the dialer
	stream net.Conn // conn, or TLS over it
	lines  *bufio.Reader
	dead   bool // the host no longer listens, or makes no sense
	t      Transcript
}

// talk takes the steps after the connection, and says QUIT where the host still listens.
func (c *conversation) talk(ctx context.Context) {
	if c.Implicit {
		if !c.step(StepTLS, func() error { return c.handshake(ctx) }) {
			return
		}
		c.step(StepCertificate, c.certificate)
	}
	ok := c.step(StepBanner, func() error { return c.expect(&c.t.Banner, 220) }) &&
		c.step(StepEHLO, func() error { return c.ehlo(&c.t.EHLO) })
	if ok && !c.Implicit {
		c.t.Offered = c.t.EHLO.keyword("STARTTLS")
		if c.step(StepSTARTTLS, c.starttls) {
			if !c.step(StepTLS, func() error { return c.handshake(ctx) }) {
				return
			}
			c.step(StepCertificate, c.certificate)
			c.step(StepEHLOAgain, func() error { return c.ehlo(&c.t.EHLOAgain) })
		}
	}
	if c.dead {
		return
	}
	var bye Reply
	began := time.Now()
	const patience = 5 * time.Second
	_ = c.conn.SetDeadline(began.Add(min(c.Each, patience)))
	err := c.command("QUIT")
	if err == nil {
		err = c.expect(&bye, 221)
	}
	took := time.Since(began)
	if err == nil {
		// The host closes first (RFC 5321 section 4.1.1.10), so that it never sees two connections of ours at once. One that
		// does not is not waited for.
		const parting = 250 * time.Millisecond
		_ = c.conn.SetDeadline(time.Now().Add(parting))
		_, _ = c.lines.ReadByte()
	}
	// A host that hangs up without a word has kept its promise all the same.
	c.t.Steps = append(c.t.Steps, Done{Step: StepQUIT, Took: took, Err: err})
}

// step takes a step and notes how it went. It returns false when it failed.
func (c *conversation) step(s Step, take func() error) bool {
	began := time.Now()
	if c.conn != nil {
		_ = c.conn.SetDeadline(began.Add(c.Each))
	}
	err := take()
	c.t.Steps = append(c.t.Steps, Done{Step: s, Took: time.Since(began), Err: err})
	if err != nil && c.t.Failed == StepNone {
		c.fail(s, err)
	}
	return err == nil
}

func (c *conversation) connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: c.Connect, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", c.Addr.String())
	if err != nil {
		return err
	}
	c.conn = &bounded{Conn: conn, left: maxBytes}
	c.use(c.conn)
	return nil
}

func (c *conversation) use(stream net.Conn) {
	c.stream, c.lines = stream, bufio.NewReaderSize(stream, maxLine)
}

func (c *conversation) handshake(ctx context.Context) error {
	if n := c.lines.Buffered(); n > 0 {
		c.t.Stray = true
	}
	session := tls.Client(c.conn, c.config())
	if err := session.HandshakeContext(ctx); err != nil {
		return err
	}
	state := session.ConnectionState()
	c.t.Session = &Session{Version: state.Version, Cipher: state.CipherSuite, Chain: state.PeerCertificates}
	c.use(session)
	return nil
}

// certificate judges the certificate. The dialogue goes on whatever it is like: nothing is handed over in it.
func (c *conversation) certificate() error {
	s := c.t.Session
	s.Verification = Trust{Host: c.Host, Roots: c.Roots, At: c.At}.Verify(s.Chain)
	_, err := s.Cause()
	return err
}

func (c *conversation) ehlo(reply *Reply) error {
	helo := c.Helo
	if helo == "" {
		helo = literal(c.conn.LocalAddr())
	}
	if err := c.command("EHLO " + helo); err != nil {
		return err
	}
	return c.expect(reply, 250)
}

func (c *conversation) starttls() error {
	if !c.t.Offered {
		return errors.New("not offered")
	}
	if err := c.command("STARTTLS"); err != nil {
		return err
	}
	return c.expect(&c.t.STARTTLS, 220)
}

func (c *conversation) command(line string) error {
	c.t.Lines = append(c.t.Lines, Line{Sent: true, Text: line})
	_, err := io.WriteString(c.stream, line+"\r\n")
	c.dead = c.dead || err != nil
	return err
}

// expect reads a reply, which must have the code.
func (c *conversation) expect(reply *Reply, code int) error {
	var err error
	if *reply, err = readReply(c.lines); err != nil {
		c.dead = true
		return err
	}
	for i, text := range reply.Lines {
		separator := "-"
		if i == len(reply.Lines)-1 {
			separator = " "
		}
		c.t.Lines = append(c.t.Lines, Line{Text: fmt.Sprint(reply.Code) + separator + text})
	}
	if reply.Code != code {
		return fmt.Errorf("the host says %s", reply)
	}
	return nil
}

// fail notes the first failure and its cause.
func (c *conversation) fail(s Step, err error) {
	c.t.Failed = s
	text := err.Error()
	switch {
	case c.givenUp():
		c.t.Ours, text = true, "given up: there was no more time"
	case timedOut(err):
		text = "timeout: no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		text = "the connection was closed"
	}
	switch s {
	case StepConnect:
		text = c.failedToConnect(err, text)
	case StepTLS:
		c.t.Cause = TLSHandshake
		var no tls.RecordHeaderError
		if errors.As(err, &no) && c.Implicit {
			if _, _, is := parseLine(string(no.RecordHeader[:3])); is {
				c.t.Cause, text = Plaintext, "the host speaks in the clear: "+string(no.RecordHeader[:3])
			}
		}
	case StepCertificate:
		c.t.Cause, _ = c.t.Session.Cause()
	case StepSTARTTLS:
		c.t.Cause = Plaintext
	default:
		c.t.Cause = Banner
	}
	c.t.Why = Tidy(s.String() + ": " + text)
}

// failedToConnect tells a refusal from silence, and both from a failure on our side.
func (c *conversation) failedToConnect(err error, text string) string {
	var errno syscall.Errno
	_ = errors.As(err, &errno)
	switch {
	case c.t.Ours:
	case timedOut(err), errno == syscall.EHOSTUNREACH, errno == syscall.EHOSTDOWN:
		c.t.Cause, c.t.Silent = Timeout, true
		if errno != 0 && !timedOut(err) {
			text = errno.Error()
		}
	case errno == syscall.ECONNREFUSED, errno == syscall.ECONNRESET, errno == syscall.ECONNABORTED:
		c.t.Cause, text = Refused, "connection refused"
	default:
		// No route, no address of the family, no descriptor left: none of it is the host's doing.
		c.t.Ours = true
		if errno != 0 {
			text = errno.Error()
		}
	}
	return text
}

// givenUp says whether it was the caller that ended it. A dialer's own clock may be a little ahead of the
// caller's context.
func (c *conversation) givenUp() bool {
	end, limited := c.caller.Deadline()
	return c.caller.Err() != nil || limited && !time.Now().Before(end)
}

// timedOut says whether err is the end of a time limit. We close a connection ourselves for no other reason.
func timedOut(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.As(err, &t) && t.Timeout()
}

// literal is an address as EHLO takes it, RFC 5321 section 4.1.3.
func literal(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return "[127.0.0.1]"
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + strings.ToLower(ip.String()) + "]"
}

// bounded is a connection that may say so much and no more.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: over %d octets in one connection", ErrNotSMTP, maxBytes)
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
