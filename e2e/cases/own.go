package cases

import (
	"context"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
)

func ownDomains(l *lab.Lab) []Case {
	return []Case{
		local(l, lab.OwnDomain, "own domain with an smtps- MX: delivered here, no loop"),
		local(l, lab.HostedDomain, "own domain without the guard map: delivered here, no loop"),
	}
}

// local is a domain that this site receives itself. A route for it would be a mail loop.
func local(l *lab.Lab, domain, name string) Case {
	r := l.Host(lab.Host{Name: "smtps-mx." + domain, On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX(domain, r.Name)
	return Case{Name: name, Run: func(ctx context.Context) string {
		unrouted(ctx, l, domain)
		m, line := attempt(ctx, l, want{status: "sent", relay: "local"}, "someone@"+domain)
		must.Be(strings.Count(l.Postfix.Mailbox(), "Subject: "+m.Token) == 1, "the mail is not in the mailbox once")
		untouched(r, m)
		return line
	}}
}
