package cases

import (
	"context"
	"errors"
	"fmt"

	"github.com/policyd/policyd/e2e/lab"
)

// promises are hosts that carry a prefix and keep what it says, or do not.
func promises(l *lab.Lab) []Case {
	broken := func(name, domain string, h lab.Host, reason string) Case {
		h.Name = "starttls-mx." + domain
		return deferred(l, story{name: name, domain: domain, host: h, reason: reason})
	}
	return []Case{
		delivered(l, "starttls- host that keeps its promise: verified", "good.test"),
		broken("STARTTLS stripped: waits, nothing in the clear", "stripped.test",
			lab.Host{On25: lab.Clear}, "TLS is required, but was not offered"),
		broken("STARTTLS refused: waits, nothing in the clear", "refused.test",
			lab.Host{On25: lab.Refuses}, "TLS is required, but host"),
		broken("STARTTLS stalls: waits, nothing in the clear", "stalls.test",
			lab.Host{On25: lab.StallsTLS}, "Cannot start TLS"),
		broken("certificate for another name: waits", "othername.test",
			lab.Host{On25: lab.STARTTLS, Flaw: lab.OtherName}, "Server certificate not verified"),
		broken("self-signed certificate: waits", "selfsigned.test",
			lab.Host{On25: lab.STARTTLS, Flaw: lab.SelfSigned}, "Server certificate not"),
		broken("expired certificate: waits", "expiredcert.test",
			lab.Host{On25: lab.STARTTLS, Flaw: lab.ExpiredCert}, "Server certificate not"),
		plain(l),
		plainTLS(l),
		always(l),
		mixed(l),
		mixedStripped(l),
	}
}

// delivered is a domain with one starttls- host.
func delivered(l *lab.Lab, name, domain string) Case {
	r := l.Host(lab.Host{Name: "starttls-mx." + domain, On25: lab.STARTTLS})
	l.MX(domain, r.Name)
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(r.Name), "someone@"+domain)
		if err != nil {
			return line, err
		}
		return line, received(r, m)
	}}
}

// story is a domain with one host that does not keep its promise.
type story struct {
	name, domain string
	host         lab.Host
	reason       string
}

func deferred(l *lab.Lab, s story) Case {
	r := l.Host(s.host)
	l.MX(s.domain, r.Name)
	return Case{Name: s.name, Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, want{status: "deferred", reason: s.reason}, "someone@"+s.domain)
		if err != nil {
			return line, err
		}
		if len(r.Sessions()) == 0 {
			return line, fmt.Errorf("%s was not even tried", r.Name)
		}
		queued, err := m.Queued(ctx)
		if err == nil && !queued {
			err = errors.New("the mail is not in the queue any more")
		}
		return line, errors.Join(err, untouched(r, m))
	}}
}

// plain is a domain without any promise and without TLS.
func plain(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.plain.test", On25: lab.Clear})
	l.MX("plain.test", r.Name)
	return Case{Name: "plain domain without TLS: delivered as before", Run: func(ctx context.Context) (string, error) {
		w := want{status: "sent", relay: r.Name + ":25", service: viaDefault, inClear: true}
		m, line, err := attempt(ctx, l, w, "someone@plain.test")
		if err == nil && len(r.Got(m.Token)) != 1 {
			err = errors.New("the receiver does not have it")
		}
		return line, err
	}}
}

// plainTLS is a domain without any promise whose host happens to know STARTTLS, with a certificate of its own.
func plainTLS(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.plaintls.test", On25: lab.STARTTLS, Flaw: lab.SelfSigned})
	l.MX("plaintls.test", r.Name)
	return Case{Name: "plain domain with self-signed STARTTLS: delivered as before", Run: func(ctx context.Context) (string, error) {
		w := want{status: "sent", relay: r.Name + ":25", service: viaDefault, tls: "Untrusted"}
		_, line, err := attempt(ctx, l, w, "someone@plaintls.test")
		return line, err
	}}
}

func always(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "smtps-mx.always.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("always.test", r.Name)
	return Case{Name: "smtps- host, mode always: port 26 with implicit TLS", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified26(r.Name), "someone@always.test")
		if err != nil {
			return line, err
		}
		if got := r.Got(m.Token); len(got) != 1 || !got[0].Implicit {
			return line, errors.New("not over implicit TLS")
		}
		return line, received(r, m)
	}}
}

// mixed is a set whose best host promises nothing: an attacker may have put it there, or knocked the others out.
func mixed(l *lab.Lab) Case {
	bare := l.Host(lab.Host{Name: "mx.mixed.test", On25: lab.STARTTLS})
	kept := l.Host(lab.Host{Name: "starttls-mx.mixed.test", On25: lab.STARTTLS})
	l.MX("mixed.test", bare.Name, kept.Name)
	return Case{Name: "mixed set: only the prefixed host receives", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(kept.Name), "someone@mixed.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(received(kept, m), untouched(bare, m))
	}}
}

func mixedStripped(l *lab.Lab) Case {
	bare := l.Host(lab.Host{Name: "mx.mixedstripped.test", On25: lab.STARTTLS})
	kept := l.Host(lab.Host{Name: "starttls-mx.mixedstripped.test", On25: lab.Clear})
	l.MX("mixedstripped.test", kept.Name, bare.Name)
	return Case{Name: "mixed set, prefixed host stripped: waits, the other does not get it", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, want{status: "deferred"}, "someone@mixedstripped.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(untouched(kept, m), untouched(bare, m))
	}}
}
