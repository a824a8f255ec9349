// Package smtptls talks to one address of a mail server, with STARTTLS (RFC 3207) or with implicit TLS (RFC 8314), as
// far as EHLO within TLS, and judges what it showed. RunDialogue returns a Transcript: the lines, the certificate and
// the first failure with its cause. It never sends MAIL FROM.
//
// The verdict is as strict as Postfix with "secure match=<host> servername=hostname", or stricter. A local failure, on
// our side (no route, no time left), says nothing about the server.
package smtptls

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Dialogue has the parameters of a dialogue with one address of a server.
type Dialogue struct {
	Host     string // sent as SNI, and the certificate must be for it
	Addr     netip.AddrPort
	Implicit bool           // TLS before everything else (RFC 8314 section 3); otherwise STARTTLS (RFC 3207)
	Helo     string         // the name in EHLO if Postfix has none; "" means the literal of our own address
	Roots    *x509.CertPool // trusted; nil means the system's
	At       time.Time      // when the certificate must be valid; zero means now
	// Timeout bounds the whole dialogue, and zero means 90 s: RFC 5321 section 4.5.3.2 allows a server minutes, and one
	// that greets after 25 s is not rare. A connection is waited for 10 s at most.
	Timeout time.Duration
	Postfix Judge // asked afterwards, over a connection of its own; nil: there is no second verdict
}

// RunDialogue carries out a dialogue and returns what it showed. When ctx ends, it stops and reports a local failure.
func RunDialogue(ctx context.Context, d Dialogue) Transcript {
	d.Timeout = cmp.Or(d.Timeout, 90*time.Second)
	if d.Postfix != nil {
		d.Helo = cmp.Or(d.Postfix.Helo(ctx), d.Helo)
	}
	c := conversation{Dialogue: d, caller: ctx, t: Transcript{Addr: d.Addr, Implicit: d.Implicit}}
	c.run(ctx)
	if d.Postfix != nil && c.t.needsOpinion() {
		c.t.weigh(d.Postfix.Ask(ctx, d))
	}
	return c.t
}

// conversation is a Dialogue under way.
type conversation struct {
	Dialogue
	caller context.Context
	conn   *bounded // the connection that the dialer returned
	stream net.Conn // conn, or TLS over it
	lines  *bufio.Reader
	broken bool // the server no longer listens, or broke the protocol
	t      Transcript
}

// run connects, takes the steps, and sends QUIT if the server still listens.
func (c *conversation) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if !c.step(StepConnect, func() error { return c.connect(ctx) }) {
		return
	}
	c.t.Connected = true
	defer func() { _ = c.conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.conn.Close() })()
	c.takeSteps(ctx)
	if !c.broken {
		c.quit()
	}
}

// takeSteps takes the steps over a connection, until one fails.
func (c *conversation) takeSteps(ctx context.Context) {
	if c.Implicit && !c.secure(ctx) {
		return
	}
	if !c.step(StepBanner, func() error { return c.expect(&c.t.Banner) }) {
		return
	}
	if !c.step(StepEHLO, func() error { return c.ehlo(&c.t.EHLO) }) || c.Implicit {
		return
	}
	line := slices.IndexFunc(c.t.EHLO.Lines, startTLS.MatchString) // line 0 is for the name of the server
	c.t.Offered, c.t.OfferedFirst = line >= 0, line == 0
	if c.step(StepSTARTTLS, c.starttls) && c.secure(ctx) {
		c.step(StepEHLOAgain, func() error { return c.ehlo(&c.t.EHLOAgain) })
	}
}

// quit sends QUIT. The server closes the connection first (RFC 5321 section 4.1.1.10), so that it never sees two of our
// connections at the same time, but quit waits only briefly for that. A server that closes it without a reply to QUIT
// has kept its promise all the same.
func (c *conversation) quit() {
	const replyTimeout, closeTimeout = 5 * time.Second, 250 * time.Millisecond
	var reply Reply
	_ = c.conn.SetDeadline(time.Now().Add(replyTimeout))
	if c.command("QUIT", &reply) == nil {
		_ = c.conn.SetDeadline(time.Now().Add(closeTimeout))
		_, _ = c.lines.ReadByte()
	}
}

// step takes a step, notes the first failure, and reports whether the step succeeded.
func (c *conversation) step(s Step, take func() error) bool {
	err := take()
	if err != nil && c.t.Failed == StepNone {
		c.fail(s, err)
	}
	return err == nil
}

func (c *conversation) connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", c.Addr.String())
	if err != nil {
		return err
	}
	c.conn = &bounded{Conn: conn, left: maxBytes}
	c.stream, c.lines = c.conn, bufio.NewReader(c.conn)
	return nil
}

// secure makes the TLS handshake and verifies the certificate. It returns false if there is no TLS session. The
// dialogue continues even if the certificate is not valid, because no mail is sent in it.
func (c *conversation) secure(ctx context.Context) bool {
	c.t.Stray = c.lines.Buffered() > 0
	start := &recorder{Conn: c.conn}
	client := tls.Client(start, c.config())
	if !c.step(StepTLS, func() error { return client.HandshakeContext(ctx) }) {
		c.broken = true
		return false
	}
	c.stream, c.lines = client, bufio.NewReader(client)
	state := client.ConnectionState()
	s := &Session{Version: state.Version, Cipher: state.CipherSuite, Chain: state.PeerCertificates}
	c.t.Session = s
	c.step(StepCertificate, func() error {
		s.Verification = Verify(s.Chain, c.Host, c.Roots, c.At)
		if s.Version < tls.VersionTLS13 && !secureRenegotiation(start.kept) {
			s.Faults[CertificateRules] = errors.New("no secure renegotiation (RFC 5746), which OpenSSL requires")
		}
		_, err := s.Cause()
		return err
	})
	return true
}

// ehlo sends EHLO. Like smtp(8) it sends HELO if EHLO is refused with a code other than 421; the server then offers
// nothing.
func (c *conversation) ehlo(reply *Reply) error {
	helo := cmp.Or(c.Helo, literal(c.conn.LocalAddr()))
	err := c.command("EHLO "+helo, reply)
	const serviceNotAvailable = 421
	if err == nil || c.broken || reply.Code == serviceNotAvailable {
		return err
	}
	var second Reply
	if c.command("HELO "+helo, &second) == nil {
		*reply = Reply{Code: second.Code}
		return nil
	}
	return err
}

func (c *conversation) starttls() error {
	if !c.t.Offered {
		return errors.New("not offered")
	}
	return c.command("STARTTLS", &c.t.STARTTLS)
}

// command sends a command and reads the reply, which must be positive.
func (c *conversation) command(line string, reply *Reply) error {
	c.t.Lines = append(c.t.Lines, "C: "+line)
	if _, err := io.WriteString(c.stream, line+"\r\n"); err != nil {
		c.broken = true
		return err
	}
	return c.expect(reply)
}

// expect reads a reply, which must be positive.
func (c *conversation) expect(reply *Reply) error {
	var err error
	*reply, err = readReply(c.lines)
	if err != nil {
		c.broken = true
		return err
	}
	for _, line := range reply.Lines {
		c.t.Lines = append(c.t.Lines, fmt.Sprintf("S: %03d %s", reply.Code, line))
	}
	if !reply.positive() {
		return fmt.Errorf("the host says %s", reply)
	}
	return nil
}

// fail notes the first failure and its cause. It is a local failure if the caller's context has ended; the dialer may
// notice the deadline a little before the context does.
func (c *conversation) fail(s Step, err error) {
	deadline, limited := c.caller.Deadline()
	ended := c.caller.Err() != nil || limited && !time.Now().Before(deadline)
	cause, why := CauseNone, "deadline exceeded"
	if !ended {
		cause, why = c.cause(s, err)
	}
	c.t.Failed, c.t.Cause, c.t.Why = s, cause, Tidy(string(s)+": "+why)
}

// cause returns why a step failed, in the words of a verdict and in a sentence. CauseNone means that the server is not
// to blame: there is no route to it, no address of its family, or no descriptor left.
func (c *conversation) cause(s Step, err error) (Cause, string) {
	errno, _ := errors.AsType[syscall.Errno](err) // 0 if it is none
	record, notTLS := errors.AsType[tls.RecordHeaderError](err)
	network, ok := errors.AsType[net.Error](err)
	late := errors.Is(err, net.ErrClosed) || ok && network.Timeout() // run closes the connection when ctx ends
	reset := errno == syscall.ECONNREFUSED || errno == syscall.ECONNRESET || errno == syscall.ECONNABORTED
	closed := reset || errno == syscall.EPIPE || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	why := err.Error()
	switch {
	case late:
		why = "timeout: no answer in time"
	case closed:
		why = "the connection was closed"
	case errno != 0:
		why = errno.Error()
	}
	switch {
	case s == StepConnect && reset:
		return Refused, "connection refused"
	case s == StepConnect && (late || errno == syscall.EHOSTUNREACH || errno == syscall.EHOSTDOWN):
		return Timeout, why
	case s == StepConnect:
		return CauseNone, why
	case s == StepCertificate:
		cause, _ := c.t.Session.Cause()
		return cause, why
	case s == StepSTARTTLS:
		return Plaintext, why
	case errors.Is(err, ErrTooLong):
		return NotJudged, why
	case s != StepTLS:
		return Banner, why
	case notTLS && c.Implicit && strings.Trim(string(record.RecordHeader[:3]), "0123456789") == "":
		return Plaintext, "the host speaks in plaintext: " + string(record.RecordHeader[:3])
	case late, closed, notTLS, strings.HasSuffix(why, "protocol version not supported"):
		return TLSHandshake, why // the last is a server without TLS 1.2, which RFC 8996 forbids
	}
	// The server ended the handshake, or Go did: with other ciphers, groups or signatures it may succeed.
	return NotJudged, why + ": " + ErrNotJudged.Error()
}

// literal returns the address of a TCP connection in the form for EHLO, RFC 5321 section 4.1.3.
func literal(a net.Addr) string {
	local, _ := netip.ParseAddrPort(a.String())
	ip := local.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return "[IPv6:" + ip.String() + "]"
	}
	return "[" + ip.String() + "]"
}

// bounded is a connection from which at most left more octets can be read.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrTooLong
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
