package lab

import (
	"context"
	"fmt"
	"net/textproto"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// Sent is a mail that Postfix has accepted.
type Sent struct {
	To    string
	Token string // a word that only this message contains
	ID    string // the name of the queue file

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

var (
	queuedAs = regexp.MustCompile(`queued as (\w+)`)
	tokens   atomic.Int64
)

// Send gives Postfix a mail over SMTP.
func (p *Postfix) Send(ctx context.Context, from, to string) (*Sent, error) {
	m := &Sent{To: to, Token: fmt.Sprintf("token-%d-%d", time.Now().UnixNano(), tokens.Add(1)), postfix: p}
	m.seen = len(p.Log.Lines(0))
	reply, err := submit(from, to, "From: <"+from+">\r\nTo: <"+to+">\r\nSubject: "+m.Token+
		"\r\n\r\nThe secret of this mail is "+m.Token+".")
	if err != nil {
		return nil, fmt.Errorf("lab: Postfix did not accept a mail to %s: %w; the log ends:\n%s", to, err,
			p.Log.Tail(10, "warning", "fatal"))
	}
	id := queuedAs.FindStringSubmatch(reply)
	if id == nil {
		return nil, fmt.Errorf("lab: no queue ID in %q", reply)
	}
	m.ID = id[1]
	return m, ctx.Err()
}

// submit sends a mail over SMTP and returns the reply to the end of the data, which net/smtp discards.
func submit(from, to, text string) (reply string, err error) {
	c, err := textproto.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_, _, err = c.ReadResponse(220)
	for _, step := range []struct {
		say  string
		code int
	}{
		{"EHLO localhost", 250}, {"MAIL FROM:<" + from + ">", 250}, {"RCPT TO:<" + to + ">", 25}, {"DATA", 354},
		{text + "\r\n.", 250},
	} {
		if err == nil {
			err = c.PrintfLine("%s", step.say)
		}
		if err == nil {
			_, reply, err = c.ReadResponse(step.code)
		}
	}
	return reply, err
}

// deliveryLine matches the service, its process, the queue ID, the relay, the status and the reason.
var deliveryLine = regexp.MustCompile(
	`(postfix/\S+)(\[\d+\]): (\w+): to=<[^>]*>.*? relay=([^,]+), .*status=(\w+) \((.*)\)$`)

// Wait returns the next attempt to deliver the mail.
func (m *Sent) Wait(ctx context.Context) (Delivery, error) {
	log := m.postfix.Log
	line, next, err := log.Wait(ctx, m.seen, func(l string) bool {
		return strings.Contains(l, ": "+m.ID+": to=") && deliveryLine.MatchString(l)
	})
	if err != nil {
		return Delivery{}, fmt.Errorf("lab: waiting for the delivery of %s to %s: %w; the log ends:\n%s",
			m.ID, m.To, err, log.Tail(20, m.ID, m.To[strings.LastIndexByte(m.To, '@')+1:], "warning", "fatal"))
	}
	f := deliveryLine.FindStringSubmatch(line)
	d := Delivery{Service: f[1], Relay: f[4], Status: f[5], Reason: f[6], Line: line[strings.Index(line, f[1]):]}
	// The log line about TLS contains the process and the relay, but no queue ID.
	for _, l := range log.Lines(m.seen)[:next-m.seen] {
		_, rest, ok := strings.Cut(l, f[1]+f[2]+": ")
		level, peer, established := strings.Cut(rest, " TLS connection established to ")
		if ok && established && strings.HasPrefix(peer, d.Relay+":") {
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

// ReportSocket is where Postfix sends its observations to a TLSRPT collector, below the queue directory.
const ReportSocket = "tlsrpt/collector"

// Report waits for a TLSRPT report about a domain.
func (l *Lab) Report(ctx context.Context, domain string) (string, error) {
	line, _, err := l.reports.Wait(ctx, 0, func(line string) bool { return strings.Contains(line, `"`+domain+`"`) })
	if err != nil {
		return "", fmt.Errorf("lab: waiting for a report about %s: %w; the reports are:\n%s", domain, err,
			l.reports.Tail(5, ""))
	}
	return line, nil
}
