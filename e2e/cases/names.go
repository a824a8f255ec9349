package cases

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// names are the ways in which DNS says, denies or garbles where a domain's mail goes, and own domains.
func names(l *lab.Lab) []Case {
	return []Case{
		delivered(l, "zone signed with NSEC3: verified", "nsec3.test"),
		delivered(l, "unsigned zone: the promise is kept all the same", "unsigned.test"),
		deferred(l, story{
			name: "unsigned zone, STARTTLS stripped: waits", domain: "stripped.unsigned.test", reason: "TLS is required",
			host: lab.Host{Name: "starttls-mx.stripped.unsigned.test", On25: lab.Clear},
		}),
		bogus(l, "expired.test", "bogus zone (signatures expired): waits"),
		bogus(l, "wrongds.test", "bogus zone (DS of another key): waits"),
		alias(l, "alias.test", "good.test"),
		alias(l, "alias-out.test", "unsigned.test"),
		wildcard(l),
		nullMX(l),
		noMX(l),
	}
}

// own are the domains that this site receives itself.
func own(l *lab.Lab) []Case {
	return []Case{
		local(l, lab.OwnDomain, "own domain with an smtps- MX: delivered here, no loop"),
		local(l, lab.HostedDomain, "own domain without the guard map: delivered here, no loop"),
	}
}

// bogus is a domain in a zone that does not validate, which is what an attacker's answer looks like.
func bogus(l *lab.Lab, domain, name string) Case {
	r := l.Host(lab.Host{Name: "starttls-mx." + domain, On25: lab.STARTTLS})
	l.MX(domain, r.Name)
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		reply, err := l.Policyd.Ask(ctx, "tls-policy", domain)
		if err != nil {
			return "", err
		}
		if reply.Status != socketmap.StatusTemp {
			return "", fmt.Errorf("policyd answers %q to a bogus domain", reply)
		}
		m, line, err := attempt(ctx, l, want{status: "deferred"}, "someone@"+domain)
		if err != nil {
			return line, err
		}
		return line, untouched(r, m)
	}}
}

// alias is a domain that is a CNAME for one of delivered.
func alias(l *lab.Lab, domain, target string) Case {
	l.Records(domain + ". CNAME " + target + ".")
	return Case{Name: domain + ", a CNAME to " + target + ": verified", Run: func(ctx context.Context) (string, error) {
		_, line, err := attempt(ctx, l, verified("starttls-mx."+target), "someone@"+domain)
		return line, err
	}}
}

func wildcard(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "starttls-mx.wild.test", On25: lab.STARTTLS})
	l.MX("*.wild.test", r.Name)
	return Case{Name: "wildcard MX: verified", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(r.Name), "someone@any.thing.wild.test")
		if err != nil {
			return line, err
		}
		return line, received(r, m)
	}}
}

func nullMX(l *lab.Lab) Case {
	l.Records("nullmx.test. MX 0 .")
	return Case{Name: "null MX: Postfix returns it, policyd says nothing", Run: func(ctx context.Context) (string, error) {
		_, line, err := attempt(ctx, l, want{status: "bounced", reason: "nullMX"}, "someone@nullmx.test")
		return line, err
	}}
}

// noMX has a name that looks like a promise, which an implicit MX never makes.
func noMX(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "starttls-nomx.test", On25: lab.Clear})
	return Case{Name: "no MX, the domain's own address: delivered as before", Run: func(ctx context.Context) (string, error) {
		_, line, err := attempt(ctx, l, want{status: "sent", relay: r.Name + ":25", inClear: true}, "someone@starttls-nomx.test")
		return line, err
	}}
}

// local is a domain that this site receives itself. A route for it would send its mail in circles.
func local(l *lab.Lab, domain, name string) Case {
	r := l.Host(lab.Host{Name: "smtps-mx." + domain, On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX(domain, r.Name)
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		reply, err := l.Policyd.Ask(ctx, "transport", "someone@"+domain)
		if err != nil {
			return "", err
		}
		if reply.Status != socketmap.StatusNotFound {
			return "", fmt.Errorf("policyd gives the own domain %s the route %q", domain, reply)
		}
		m, line, err := attempt(ctx, l, want{status: "sent", relay: "local"}, "someone@"+domain)
		if err != nil {
			return line, err
		}
		box, err := l.Postfix.Mailbox()
		if err == nil && strings.Count(box, "Subject: "+m.Token) != 1 {
			err = errors.New("the mail is not in the mailbox once")
		}
		return line, errors.Join(err, untouched(r, m))
	}}
}
