package cases

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
)

// tables are what Postfix's own lookup program gets from policyd under the names that operators write.
func tables(l *lab.Lab) []Case {
	r := l.Host(lab.Host{Name: "starttls-mx.tables.test", On25: lab.STARTTLS})
	l.MX("tables.test", r.Name)
	policy := secure(r.Name)
	socketmap := func(name string) string { return "socketmap:inet:" + lab.PolicydAddr + ":" + name }
	return []Case{
		{Name: "postmap: every spelling of a map name", Run: func(ctx context.Context) (string, error) {
			for _, name := range []string{"tls-policy", "Tls-Policy", "TLS-POLICY", "query", "QUERY", "Query", "sts",
				"STS"} {
				value, found, err := l.Postfix.Lookup(ctx, socketmap(name), "tables.test")
				if err != nil || !found || value != policy {
					return name, errors.Join(err, fmt.Errorf("the answer of %s is %q", name, value))
				}
			}
			return policy, nil
		}},
		{Name: "postmap: every spelling with the TLSRPT attributes", Run: func(ctx context.Context) (string, error) {
			for _, name := range []string{"tls-policy-tlsrpt", "TLS-Policy-TLSRPT", "QUERYwithTLSRPT",
				"querywithtlsrpt"} {
				value, found, err := l.Postfix.Lookup(ctx, socketmap(name), "tables.test")
				if err != nil || !found || !strings.HasPrefix(value, policy) {
					return name, errors.Join(err, fmt.Errorf("the answer of %s is %q", name, value))
				}
			}
			return policy, nil
		}},
		{Name: "postmap: the transport map has no route without port 26",
			Run: func(ctx context.Context) (string, error) {
				value, found, err := l.Postfix.Lookup(ctx, socketmap("Transport"), "someone@tables.test")
				if err == nil && found {
					err = fmt.Errorf("the answer is %q", value)
				}
				return "not found", err
			}},
		{Name: "postmap: an unknown map is an error that names the right one",
			Run: func(ctx context.Context) (string, error) {
				_, _, err := l.Postfix.Lookup(ctx, socketmap("tls_policy"), "tables.test")
				if err == nil || !strings.Contains(err.Error(), "tls-policy") {
					return "", fmt.Errorf("the error is %w", errors.Join(err, errors.New("no hint in it")))
				}
				return err.Error(), nil
			}},
	}
}

// relayed is a relay host that only /etc/hosts knows, as a next hop in brackets: the lookup in the DNS fails, and mail
// goes out.
func relayed(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: lab.RelayHost, On25: lab.Clear})
	l.InHostsFile(r)
	return Case{Name: "relay host that only /etc/hosts knows: delivered",
		Run: func(ctx context.Context) (string, error) {
			m, err := l.Postfix.SendFrom(ctx, lab.RelayedSender, "someone@good.test")
			if err != nil {
				return "", err
			}
			line, err := next(ctx, m, want{status: "sent", relay: r.Name + ":25"})
			if err == nil && len(r.Got(m.Token)) != 1 {
				err = errors.New("the relay host does not have the mail")
			}
			return line, err
		}}
}
