package lab

import (
	"context"
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// Sent is a mail that Postfix has accepted.
type Sent struct {
	To    string
	Token string // in the message and nowhere else
	ID    string // of the queue file

	postfix *Postfix
	seen    int // log lines that were read for it
}

// Delivery is one delivery attempt, read from the mail log.
type Delivery struct {
	Service string // "postfix/smtp", "postfix/smtps26/smtp", "postfix/local"
	Relay   string // "mx.a.test[127.20.1.1]:25", "none", "local"
	Status  string // "sent", "deferred", "bounced"
	Reason  string
	TLS     string // "Verified", "Trusted", "Untrusted", "Anonymous", or "" for none
	Line    string
}

// smtpClient speaks just enough SMTP to queue a mail and read its queue ID.
type smtpClient struct {
	conn net.Conn
	text *textproto.Conn
}

func dialSMTP(ctx context.Context) (*smtpClient, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", "127.0.0.1:25")
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &smtpClient{conn: conn, text: textproto.NewConn(conn)}
	if _, _, err := c.text.ReadResponse(220); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *smtpClient) close() { _ = c.text.Close() }

func (c *smtpClient) command(code int, line string) (string, error) {
	if err := c.text.PrintfLine("%s", line); err != nil {
		return "", err
	}
	_, text, err := c.text.ReadResponse(code)
	if err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	return text, nil
}

var (
	queuedAs = regexp.MustCompile(`queued as (\w+)`)
	tokens   atomic.Int64
)

// Send gives Postfix a mail from the lab's own user.
func (p *Postfix) Send(ctx context.Context, to string) (*Sent, error) {
	return p.SendFrom(ctx, "someone@"+OwnDomain, to)
}

// SendFrom gives Postfix a mail over SMTP.
func (p *Postfix) SendFrom(ctx context.Context, from, to string) (*Sent, error) {
	m := &Sent{To: to, Token: fmt.Sprintf("token-%d-%d", time.Now().UnixNano(), tokens.Add(1)), postfix: p}
	_, m.seen = p.proc.output.since(0)
	c, err := dialSMTP(ctx)
	if err != nil {
		return nil, fmt.Errorf("lab: to Postfix: %w", err)
	}
	defer c.close()
	var answers strings.Builder
	for _, step := range []struct {
		code int
		line string
	}{
		{250, "EHLO " + Hostname}, {250, "MAIL FROM:<" + from + ">"}, {250, "RCPT TO:<" + to + ">"}, {354, "DATA"},
		{250, "From: <" + from + ">\r\nTo: <" + to + ">\r\nSubject: " + m.Token +
			"\r\n\r\nThe secret of this mail is " + m.Token + ".\r\n."},
		{221, "QUIT"},
	} {
		said, err := c.command(step.code, step.line)
		if err != nil {
			return nil, fmt.Errorf("lab: Postfix did not take a mail to %s: %w; the log says:\n%s", to, err,
				p.Log(10, "warning", "fatal"))
		}
		answers.WriteString(said + "\n")
	}
	id := queuedAs.FindStringSubmatch(answers.String())
	if id == nil {
		return nil, fmt.Errorf("lab: no queue number in %q", answers.String())
	}
	m.ID = id[1]
	return m, nil
}

// The submatches are the service, its process, the queue ID, the relay, the status and the reason.
var deliveryLine = regexp.MustCompile(`(postfix/\S+)(\[\d+\]): (\w+): to=<[^>]*>.*? relay=([^,]+), .*status=(\w+) \((.*)\)$`)

// Wait returns the next attempt to deliver the mail.
func (m *Sent) Wait(ctx context.Context) (Delivery, error) {
	line, next, err := m.postfix.proc.output.wait(ctx, m.seen, func(l string) bool {
		return strings.Contains(l, ": "+m.ID+": to=") && deliveryLine.MatchString(l)
	})
	if err != nil {
		return Delivery{}, fmt.Errorf("lab: waiting for the delivery of %s to %s: %w; the log says:\n%s",
			m.ID, m.To, err, m.postfix.proc.output.tail(20, m.ID, domainOf(m.To), "warning", "fatal"))
	}
	before, _ := m.postfix.proc.output.since(0)
	f := deliveryLine.FindStringSubmatch(line)
	d := Delivery{Service: f[1], Relay: f[4], Status: f[5], Reason: f[6], Line: line[strings.Index(line, f[1]):]}
	// The log line about TLS contains the process and the relay, but no queue ID.
	for _, l := range before[m.seen:next] {
		_, rest, ok := strings.Cut(l, f[1]+f[2]+": ")
		level, what, established := strings.Cut(rest, " TLS connection established to ")
		if ok && established && strings.HasPrefix(what, d.Relay+":") {
			d.TLS = level
		}
	}
	m.seen = next
	return d, nil
}

// Retry makes Postfix try a deferred mail again immediately.
func (m *Sent) Retry(ctx context.Context) error {
	_, err := m.postfix.run(ctx, "postqueue", "-i", m.ID)
	return err
}

// Queued reports whether the mail is still in the queue.
func (m *Sent) Queued(ctx context.Context) (bool, error) {
	out, err := m.postfix.run(ctx, "postqueue", "-p")
	return strings.Contains(out, m.ID), err
}

// Log returns the last lines of the mail log that have any of the words in them.
func (p *Postfix) Log(count int, words ...string) string { return p.proc.output.tail(count, words...) }

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
