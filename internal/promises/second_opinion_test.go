package promises_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/promises"
)

// resolver answers every MX question with one host, and every TXT question with txt if that is not empty.
type resolver struct {
	host string
	txt  string
	err  error
	n    int
}

func (r *resolver) Lookup(_ context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	r.n++
	a := &dns.RRset{Name: q.Name, Type: q.Type, Status: dns.Insecure}
	if q.Type == dns.TypeMX {
		a.Records = []dns.MX{{Preference: 10, Host: r.host}}
	} else if r.txt != "" {
		a.Records = []string{r.txt}
	}
	return a, r.err
}

func TestTheSecondResolverIsAskedTwice(t *testing.T) {
	t.Parallel()
	const record = "v=STSv1; id=1;"
	for _, c := range []struct {
		name    string
		promise promises.Kind
		first   *resolver
		second  *resolver
		ends    bool
	}{
		{"the same answer", promises.Prefix, &resolver{host: "mx.example.com"}, &resolver{host: "mx.example.com"}, true},
		{"another answer", promises.Prefix, &resolver{host: "mx.example.com"},
			&resolver{host: "starttls-mx.example.com"}, false},
		{"no answer", promises.Prefix, &resolver{host: "mx.example.com"}, &resolver{err: errors.New("timed out")}, false},
		{"the same MTA-STS record, a prefix is missing", promises.Prefix,
			&resolver{host: "mx.example.com", txt: record}, &resolver{host: "mx.example.com", txt: record}, true},
		// An attacker who blocks the web server of the domain does not change the DNS answers.
		{"the same MTA-STS record, its policy is missing", promises.MTASTS,
			&resolver{host: "mx.example.com", txt: record}, &resolver{host: "mx.example.com", txt: record}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := promises.New(promises.Options{})
				for range 3 {
					s.Observe(domain, with(c.promise))
					time.Sleep(24 * time.Hour)
				}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				o := &promises.SecondOpinion{Store: s, First: c.first, Second: c.second}
				go func() { done <- o.Run(ctx) }()
				time.Sleep(time.Hour)
				require.Zero(t, c.second.n, "nothing is held yet")
				s.Observe(domain, promises.Answer{Held: true})
				time.Sleep(25 * time.Minute)
				require.NotEmpty(t, s.Holds())
				time.Sleep(10 * time.Minute)
				require.Equal(t, c.ends, len(s.Holds()) == 0)
				stop()
				require.ErrorIs(t, <-done, context.Canceled)
				if c.ends {
					require.Equal(t, 4, c.second.n)
				}
			})
		})
	}
}
