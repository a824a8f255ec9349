package cases

import (
	"context"
	"errors"

	"github.com/policyd/policyd/e2e/lab"
)

// promises are hosts that carry a prefix and keep its promise, or do not.
func promises(l *lab.Lab) []Case { return append(build(l, promiseMails()), always(l)) }

func always(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "smtps-mx.always.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("always.test", r.Name)
	return Case{Name: "smtps- host, mode always: port 26 with implicit TLS",
		Run: func(ctx context.Context) (string, error) {
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
