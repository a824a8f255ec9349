// Package smtptls talks to one address of a mail server, with STARTTLS (RFC 3207) or with implicit TLS (RFC 8314),
// as far as EHLO within TLS, and judges what it showed. Talk returns a Transcript: every step, the certificate and
// the first failure with its cause. It never sends MAIL FROM.
//
// The verdict is as strict as Postfix with "secure match=<host> servername=hostname", or stricter. A failure on our
// side (no route, no time left) is marked as ours and says nothing about the server.
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
	"strings"
	"syscall"
	"time"
)

// Dialogue has the parameters of a dialogue with one address of a server.
type Dialogue struct {
	// Host is sent as SNI, and the certificate must be for it.
	Host string
	Addr netip.AddrPort
	// Implicit is for TLS before everything else (RFC 8314 section 3); otherwise it is STARTTLS (RFC 3207).
	Implicit bool
	// Helo is the name in EHLO where Postfix knows none; "" means the literal of our own address (RFC 5321 section
	// 4.1.4).
	Helo string
	// Roots are trusted, nil means the system's; the certificate must be valid at At, zero means now.
	Roots *x509.CertPool
	At    time.Time
	// Connect, Each and Whole bound the connect, each later step and the whole; zero means 10 s, 60 s and 90 s. RFC
	// 5321 section 4.5.3.2 allows a server minutes; one that greets after 25 s is not rare.
	Connect, Each, Whole time.Duration
	// Postfix is asked afterwards, over a connection of its own. nil: there is no second verdict.
	Postfix Judge
}

// Talk carries out the dialogue. When ctx ends, it stops and reports a failure on our side.
func Talk(ctx context.Context, d Dialogue) Transcript {
	d.Connect, d.Each, d.Whole = cmp.Or(d.Connect, 10*time.Second), cmp.Or(d.Each, time.Minute),
		cmp.Or(d.Whole, 90*time.Second)
	if d.Postfix != nil {
		d.Helo = cmp.Or(d.Postfix.Helo(ctx), d.Helo)
	}
	c := conversation{Dialogue: d, caller: ctx, t: Transcript{Addr: d.Addr, Implicit: d.Implicit}}
	limited, cancel := context.WithTimeout(ctx, d.Whole)
	defer cancel()
	if c.step(StepConnect, func() error { return c.connect(limited) }) {
		stop := context.AfterFunc(limited, func() { _ = c.conn.Close() })
		c.talk(limited)
		stop()
		_ = c.conn.Close()
	}
	if d.Postfix != nil && c.t.worthASecondOpinion() {
		c.t.weigh(d.Postfix.Ask(ctx, d))
	}
	return c.t
}

// worthASecondOpinion reports whether the result depends on what Postfix makes of TLS or of the certificate.
func (t *Transcript) worthASecondOpinion() bool {
	switch t.Failed {
	case StepNone, StepCertificate:
		return true
	case StepTLS:
		return t.Cause != Plaintext && !t.Ours
	default:
		return false
	}
}

// conversation is a Dialogue under way.
type conversation struct {
	Dialogue
	caller context.Context
	conn   *bounded // as it came from the dialer
	stream net.Conn // conn, or TLS over it
	lines  *bufio.Reader
	dead   bool // the server no longer listens, or broke the protocol
	t      Transcript
}

// talk takes the steps after the connection, and says QUIT where the server still listens.
func (c *conversation) talk(ctx context.Context) {
	if c.Implicit {
		if !c.step(StepTLS, func() error { return c.handshake(ctx) }) {
			return
		}
		c.step(StepCertificate, c.certificate)
	}
	ok := c.step(StepBanner, func() error { return c.expect(&c.t.Banner) }) &&
		c.step(StepEHLO, func() error { return c.ehlo(&c.t.EHLO) })
	if ok && !c.Implicit {
		line := c.t.EHLO.keyword("STARTTLS")
		c.t.Offered, c.t.OfferedFirst = line >= 0, line == 0
		if c.step(StepSTARTTLS, c.starttls) {
			if !c.step(StepTLS, func() error { return c.handshake(ctx) }) {
				return
			}
			c.step(StepCertificate, c.certificate)
			c.step(StepEHLOAgain, func() error { return c.ehlo(&c.t.EHLOAgain) })
		}
	}
	if !c.dead {
		c.quit()
	}
}

// quit ends the dialogue. A server that hangs up without a word has kept its promise all the same.
func (c *conversation) quit() {
	// The server closes first (RFC 5321 section 4.1.1.10), so that it never sees two of our connections at the same
	// time. One that does not close is not waited for.
	const forReply, forClose = 5 * time.Second, 250 * time.Millisecond
	var bye Reply
	began := time.Now()
	_ = c.conn.SetDeadline(began.Add(min(c.Each, forReply)))
	err := c.command("QUIT")
	if err == nil {
		err = c.expect(&bye)
	}
	took := time.Since(began)
	if err == nil {
		_ = c.conn.SetDeadline(time.Now().Add(forClose))
		_, _ = c.lines.ReadByte()
	}
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
	c.stream, c.lines = stream, bufio.NewReader(stream)
}

func (c *conversation) handshake(ctx context.Context) error {
	if n := c.lines.Buffered(); n > 0 {
		c.t.Stray = true
	}
	c.conn.keep = maxHello
	session := tls.Client(c.conn, c.config())
	if err := session.HandshakeContext(ctx); err != nil {
		return err
	}
	state := session.ConnectionState()
	c.t.Session = &Session{Version: state.Version, Cipher: state.CipherSuite, Chain: state.PeerCertificates}
	c.use(session)
	return nil
}

// certificate judges the certificate. The dialogue continues whatever it is like: no mail is handed over in it.
func (c *conversation) certificate() error {
	s := c.t.Session
	s.Verification = Verify(s.Chain, c.Host, c.Roots, c.At)
	if s.Version < tls.VersionTLS13 && s.RulesErr == nil && !secureRenegotiation(c.conn.kept) {
		s.RulesErr = errors.New("the host does not support secure renegotiation (RFC 5746), which OpenSSL requires")
	}
	_, err := s.Cause()
	return err
}

// ehlo says EHLO. Like smtp(8) it says HELO where EHLO is refused with another code than 421; the server then offers
// nothing.
func (c *conversation) ehlo(reply *Reply) error {
	helo := cmp.Or(c.Helo, literal(c.conn.LocalAddr()))
	err := c.command("EHLO " + helo)
	if err == nil {
		err = c.expect(reply)
	}
	const serviceNotAvailable = 421
	if err == nil || c.dead || reply.Code == serviceNotAvailable {
		return err
	}
	var second Reply
	if c.command("HELO "+helo) == nil && c.expect(&second) == nil {
		*reply = Reply{Code: second.Code}
		return nil
	}
	return err
}

func (c *conversation) starttls() error {
	if !c.t.Offered {
		return errors.New("not offered")
	}
	if err := c.command("STARTTLS"); err != nil {
		return err
	}
	return c.expect(&c.t.STARTTLS)
}

func (c *conversation) command(line string) error {
	c.t.Lines = append(c.t.Lines, "C: "+line)
	_, err := io.WriteString(c.stream, line+"\r\n")
	c.dead = c.dead || err != nil
	return err
}

// expect reads a reply, which must be positive.
func (c *conversation) expect(reply *Reply) error {
	var err error
	if *reply, err = readReply(c.lines); err != nil {
		c.dead = true
		return err
	}
	for i, said := range reply.Lines {
		separator := "-"
		if i == len(reply.Lines)-1 {
			separator = " "
		}
		c.t.Lines = append(c.t.Lines, fmt.Sprintf("S: %d%s%s", reply.Code, separator, said))
	}
	if !reply.positive() {
		return fmt.Errorf("the host says %s", reply)
	}
	return nil
}

// fail notes the first failure, its cause and whether it is ours.
func (c *conversation) fail(s Step, err error) {
	c.t.Failed, c.t.Ours = s, c.givenUp()
	why, late := err.Error(), timedOut(err)
	closed := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE)
	switch {
	case c.t.Ours:
		why = "deadline exceeded"
	case late:
		why = "timeout: no answer in time"
	case closed:
		why = "the connection was closed"
	}
	switch s {
	case StepConnect:
		var errno syscall.Errno
		switch _ = errors.As(err, &errno); {
		case c.t.Ours:
		case errno == syscall.ECONNREFUSED, errno == syscall.ECONNRESET, errno == syscall.ECONNABORTED:
			c.t.Cause, why = Refused, "connection refused"
		case late, errno == syscall.EHOSTUNREACH, errno == syscall.EHOSTDOWN:
			c.t.Cause, c.t.Silent = Timeout, true
		default:
			c.t.Ours = true // no route, no address of the family or no descriptor left: the server is not to blame
		}
		if errno != 0 && !late && c.t.Cause != Refused {
			why = errno.Error()
		}
	case StepTLS:
		var record tls.RecordHeaderError
		garbage := errors.As(err, &record)
		switch {
		case garbage && c.Implicit && strings.Trim(string(record.RecordHeader[:3]), "0123456789") == "":
			c.t.Cause, why = Plaintext, "the host speaks in plaintext: "+string(record.RecordHeader[:3])
		case c.t.Ours, late, closed, garbage, strings.HasSuffix(why, "protocol version not supported"):
			c.t.Cause = TLSHandshake // the last is a server without TLS 1.2, which RFC 8996 forbids
		default:
			// The server ended the handshake, or Go did: with other ciphers, groups or signatures it may succeed.
			c.t.Cause, why = NotJudged, why+": "+ErrNotJudged.Error()
		}
	case StepCertificate:
		c.t.Cause, _ = c.t.Session.Cause()
	case StepSTARTTLS:
		c.t.Cause = Plaintext
	default:
		c.t.Cause = Banner
		if errors.Is(err, ErrTooLong) {
			c.t.Cause = NotJudged
		}
	}
	c.t.Why = Tidy(string(s) + ": " + why)
}

// givenUp reports whether the caller ended the dialogue. The dialer may notice the caller's deadline a little before
// the context does.
func (c *conversation) givenUp() bool {
	end, limited := c.caller.Deadline()
	return c.caller.Err() != nil || limited && !time.Now().Before(end)
}

// timedOut reports whether err is the end of a time limit. Talk closes a connection early for no other reason.
func timedOut(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &t) && t.Timeout()
}

// literal returns the address of a TCP connection in the form for EHLO, RFC 5321 section 4.1.3.
func literal(a net.Addr) string {
	local, _ := netip.ParseAddrPort(a.String())
	ip := local.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.String() + "]"
}

// maxHello is how much of the start of a handshake is kept, to read the ServerHello.
const maxHello = 8 << 10

// bounded is a connection over which at most left octets can be read. It keeps the next keep octets.
type bounded struct {
	net.Conn
	left, keep int
	kept       []byte
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrTooLong
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	some := min(n, b.keep)
	b.kept, b.keep = append(b.kept, p[:some]...), b.keep-some
	return n, err
}
