package lab

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"
)

// dialogue is the receiver's side of one SMTP connection (RFC 5321, RFC 3207).
type dialogue struct {
	receiver *Receiver
	service  Service
	session  *Session
	wire     *recorder

	conn net.Conn
	text *textproto.Reader
	mail Mail
}

// patience bounds every wait for a client.
const patience = 2 * time.Minute

// run talks until the client or the connection ends.
func (d *dialogue) run() {
	_ = d.wire.SetDeadline(time.Now().Add(patience))
	d.use(d.wire)
	if d.service.Behaviour == Implicit && !d.handshake() {
		return
	}
	if d.service.Behaviour == StallsTLS && d.session.Port != 25 {
		_, _ = io.Copy(io.Discard, d.wire)
		return
	}
	d.say("220 %s ESMTP", d.receiver.Name)
	for {
		line, err := d.text.ReadLine()
		if err != nil || !d.obey(line) {
			return
		}
	}
}

// obey executes one command; false ends the connection.
func (d *dialogue) obey(line string) bool {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		offers := ""
		if _, secured := d.conn.(*tls.Conn); !secured && d.service.Behaviour != Clear {
			offers = "250-STARTTLS\r\n"
		}
		d.say("250-%s\r\n%s250 8BITMIME", d.receiver.Name, offers)
	case "HELO", "NOOP":
		d.say("250 %s", d.receiver.Name)
	case "STARTTLS":
		return d.startTLS()
	case "MAIL":
		d.mail = Mail{From: path(arg)}
		d.say("250 2.1.0 Ok")
	case "RCPT":
		d.mail.To = path(arg)
		d.say("250 2.1.5 Ok")
	case "DATA":
		return d.data()
	case "RSET":
		d.mail = Mail{}
		d.say("250 2.0.0 Ok")
	case "QUIT":
		d.say("221 2.0.0 Bye")
		return false
	default:
		d.say("500 5.5.2 What?")
	}
	return true
}

func (d *dialogue) startTLS() bool {
	switch d.service.Behaviour {
	case STARTTLS:
		d.say("220 2.0.0 Ready")
		return d.handshake()
	case StallsTLS:
		d.say("220 2.0.0 Ready")
		_, _ = io.Copy(io.Discard, d.wire)
		return false
	case Closed, Clear, Refuses, Implicit, BlackHole:
	}
	d.say("454 4.7.0 TLS not available")
	return true
}

// handshake starts TLS and discards the state from before (RFC 3207 section 4.2).
func (d *dialogue) handshake() bool {
	c := tls.Server(d.wire, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			d.receiver.mu.Lock()
			defer d.receiver.mu.Unlock()
			d.session.SNI = hello.ServerName
			return d.service.Certificate, nil
		},
	})
	if err := c.Handshake(); err != nil {
		return false
	}
	d.receiver.mu.Lock()
	d.session.TLS, d.session.Implicit = true, d.service.Behaviour == Implicit
	d.receiver.mu.Unlock()
	d.use(c)
	return true
}

func (d *dialogue) data() bool {
	d.say("354 End data with <CR><LF>.<CR><LF>")
	data, err := d.text.ReadDotBytes()
	if err != nil {
		return false
	}
	d.mail.Data = data
	d.receiver.mu.Lock()
	d.session.Mails = append(d.session.Mails, d.mail)
	d.receiver.mu.Unlock()
	d.say("250 2.0.0 Ok: the lab has it")
	return true
}

func (d *dialogue) use(c net.Conn) {
	d.conn, d.text = c, textproto.NewReader(bufio.NewReader(c))
}

func (d *dialogue) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.conn, format+"\r\n", args...)
}

// path takes the address out of FROM:<a@b> or TO:<a@b>.
func path(arg string) string {
	_, rest, _ := strings.Cut(arg, "<")
	address, _, _ := strings.Cut(rest, ">")
	return address
}
