package cases

import (
	"context"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
)

// tables are lookups by Postfix's own program under the map names that operators write.
func tables(l *lab.Lab) []Case {
	r := l.Host(lab.Host{Name: "starttls-mx.tables.test", On25: lab.STARTTLS})
	l.MX("tables.test", r.Name)
	policy := secure(r.Name)
	socketmap := func(name string) string { return "socketmap:inet:" + lab.PolicydAddr + ":" + name }
	// all looks a key up under several names; each answer is the policy, and with TLSRPT its attributes follow.
	all := func(name string, tlsrpt bool, maps ...string) Case {
		return Case{Name: name, Run: func(ctx context.Context) string {
			for _, m := range maps {
				value, err := l.Postfix.Lookup(ctx, socketmap(m), "tables.test")
				right := value == policy || tlsrpt && strings.HasPrefix(value, policy)
				must.Be(err == nil && right, "the answer of %s is %q, %w", m, value, err)
			}
			return policy
		}}
	}
	return []Case{
		all("postmap: every spelling of a map name", false,
			"tls-policy", "Tls-Policy", "TLS-POLICY", "query", "QUERY", "Query", "sts", "STS"),
		all("postmap: every spelling with the TLSRPT attributes", true,
			"tls-policy-tlsrpt", "TLS-Policy-TLSRPT", "QUERYwithTLSRPT", "querywithtlsrpt"),
		{Name: "postmap: the transport map has no route without port 26",
			Run: func(ctx context.Context) string {
				value, err := l.Postfix.Lookup(ctx, socketmap("Transport"), "someone@tables.test")
				must.Be(err == nil && value == "", "the answer is %q, %w", value, err)
				return "not found"
			}},
		{Name: "postmap: an unknown map is an error that names the right one",
			Run: func(ctx context.Context) string {
				_, err := l.Postfix.Lookup(ctx, socketmap("tls_policy"), "tables.test")
				must.Be(err != nil && strings.Contains(err.Error(), "tls-policy"), "the error has no hint: %w", err)
				return err.Error()
			}},
	}
}

// relayed is a relay host in brackets that only /etc/hosts has: the lookup in the DNS fails, and mail goes out.
func relayed(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: lab.RelayHost, On25: lab.Clear})
	l.InHostsFile(r)
	return Case{Name: "relay host that is in /etc/hosts only: delivered",
		Run: func(ctx context.Context) string {
			m := must.Get(l.Postfix.Send(ctx, lab.RelayedSender, "someone@good.test"))
			line := next(ctx, m, want{status: "sent", relay: r.Name + ":25"})
			must.Be(len(r.Got(m.Token)) == 1, "the relay host does not have the mail")
			return line
		}}
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
