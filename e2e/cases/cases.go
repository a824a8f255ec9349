// Package cases has the cases of the end-to-end lab: mail to domains that keep their promise, break it or are under
// attack, each with the expected result. The tests and the demonstration run the same cases.
package cases

import (
	"context"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
)

// Case is one case.
type Case struct {
	Name string
	// Run returns the log lines that prove the result. Package must ends it when something is wrong.
	Run func(context.Context) string
}

// Phase is a group of cases that run under the same settings.
type Phase struct {
	Name   string
	Port26 string // the mode
	// Alone runs the cases one after the other, because each stops something that the others need.
	Alone bool
	Cases []Case
}

// Result has the lines that prove the result of a case, or an error.
type Result struct {
	Line string
	Err  error
}

// longest is how long one case may take. A case waits for an event, so only a failing case takes that long.
const longest = time.Minute

// Run runs the cases of a phase, concurrently unless Alone is set, and yields their results in order.
func (p Phase) Run(ctx context.Context) iter.Seq2[string, Result] {
	return func(yield func(string, Result) bool) {
		results := make([]chan Result, len(p.Cases))
		for i, c := range p.Cases {
			results[i] = make(chan Result, 1)
			if !p.Alone {
				go func() { results[i] <- c.run(ctx) }()
			}
		}
		for i, c := range p.Cases {
			if p.Alone {
				results[i] <- c.run(ctx)
			}
			if !yield(c.Name, <-results[i]) {
				return
			}
		}
	}
}

func (c Case) run(ctx context.Context) (r Result) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	r.Err = must.Catch(func() { r.Line = c.Run(ctx) })
	return r
}

// Build adds everything that the cases need to a lab that has not started.
func Build(l *lab.Lab) []Phase {
	mail{domain: "witness.test", hosts: []host{smtps("smtps-mx")}}.build(l)
	zones := build(l, nameMails())
	owns := []Case{local(l, lab.OwnDomain, "own domain with an smtps- MX: delivered here, no loop"),
		local(l, lab.HostedDomain, "own domain without the guard map: delivered here, no loop")}
	return []Phase{
		{Name: "promises", Port26: "always", Cases: build(l, promiseMails())},
		{Name: "names", Port26: "always", Cases: append(zones, owns...)},
		{Name: "tables", Port26: "always", Cases: append(tables(l), relayed(l))},
		{Name: "layers", Port26: "probe", Cases: append(build(l, layerMails()), stsRotated(l))},
		{Name: "port 26", Port26: "probe", Cases: append(append(build(l, trips()), closes(l)), owns...)},
		{Name: "check", Port26: "probe", Cases: append(build(l, checkTable()), byHand(l), screens(l))},
		// These stop policyd, its resolver or a policy host while mail flows.
		{Name: "losses", Port26: "probe", Alone: true,
			Cases: []Case{killed(l), stsKept(l), resolver(l, false), resolver(l, true)}},
	}
}

// ReportSettings are lines of main.cf for a Postfix that supports TLSRPT (3.10 and later).
const ReportSettings = `smtp_tls_policy_maps = texthash:/lab/policies, socketmap:inet:` +
	lab.PolicydAddr + `:tls-policy-tlsrpt
smtp_tlsrpt_enable = yes
smtp_tlsrpt_socket_name = ` + lab.ReportSocket + `
`

// BuildReports adds to the lab what the cases with TLSRPT need.
func BuildReports(l *lab.Lab) []Phase {
	l.CollectReports()
	return []Phase{
		{Name: "promises", Port26: "always", Cases: build(l, promiseMails())},
		{Name: "layers", Port26: "probe", Cases: append(append(build(l, layerMails()), stsRotated(l)),
			build(l, reportMails())...)},
	}
}

// want is the expected result of one delivery attempt. Empty fields are not checked.
type want struct {
	status  string
	relay   string // host and port: "mx.a.test:25", or "local"
	service string
	tls     string
	inClear bool // no TLS at all
	reason  string
}

// The names of the two transports in the log of Postfix.
const (
	viaDefault = "postfix/smtp"
	via26      = "postfix/smtps26/smtp"
)

var relayAddress = regexp.MustCompile(`\[[^\]]*\]`)

func (w want) check(d lab.Delivery) error {
	for _, f := range []struct{ what, got, want string }{
		{"status", d.Status, w.status}, {"relay", relayAddress.ReplaceAllString(d.Relay, ""), w.relay},
		{"service", d.Service, w.service}, {"TLS level", d.TLS, w.tls},
	} {
		if f.want != "" && f.got != f.want {
			return fmt.Errorf("%s %q, not %q: %s", f.what, f.got, f.want, d.Line)
		}
	}
	if w.inClear && d.TLS != "" || !strings.Contains(d.Reason, w.reason) {
		return fmt.Errorf("TLS level %q, or a reason without %q: %s", d.TLS, w.reason, d.Line)
	}
	return nil
}

// attempt sends one mail and checks its first delivery attempt.
func attempt(ctx context.Context, l *lab.Lab, w want, to string) (*lab.Sent, string) {
	m := must.Get(l.Postfix.Send(ctx, lab.User, to))
	return m, next(ctx, m, w)
}

func next(ctx context.Context, m *lab.Sent, w want) string {
	d := must.Get(m.Wait(ctx))
	must.Do(w.check(d))
	return shown(d)
}

// shown returns the log line with the TLS level in front, which Postfix logs on a separate line.
func shown(d lab.Delivery) string {
	if d.TLS == "" {
		return d.Line
	}
	return d.TLS + " TLS; " + d.Line
}

func verified(host string) want {
	return want{status: "sent", relay: host + ":25", service: viaDefault, tls: "Verified"}
}

func verified26(host string) want {
	return want{status: "sent", relay: host + ":26", service: via26, tls: "Verified"}
}

// received checks that a host has received the mail, and that an attacker on the path could not read any of it.
func received(r *lab.Receiver, m *lab.Sent) {
	got := r.Got(m.Token)
	must.Be(len(got) == 1, "%s has the mail %d times", r.Name, len(got))
	must.Be(got[0].TLS && got[0].SNI == r.Name, "%s has the mail with TLS=%v and server name %q", r.Name, got[0].TLS,
		got[0].SNI)
	unread(r, m)
}

// unread checks that neither the message nor its envelope ever crossed the wire in plaintext.
func unread(r *lab.Receiver, m *lab.Sent) {
	for _, secret := range []string{m.Token, m.To, "MAIL FROM", "RCPT TO"} {
		must.Be(!r.Seen(secret), "%q crossed the wire to %s in plaintext", secret, r.Name)
	}
}

// untouched checks that a host has not received anything of the mail.
func untouched(r *lab.Receiver, m *lab.Sent) {
	must.Be(len(r.Got(m.Token)) == 0, "%s has the mail", r.Name)
	unread(r, m)
}
