package stub

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// ask asks one server after the other until the lookup must end: after a timeout or a network error the next try, which
// is at the same server if there is only one, and after a failure that a server reports the next server. It returns
// what a server reported, which is worth more than a timeout.
func (s *Stub) ask(ctx context.Context, q dnsmsg.Query, now *state, until time.Time) (*dns.RRset, error) {
	servers := now.candidates()
	epoch, reason := s.epoch(now), "no time left"
	var failed *dns.Error
	bogus := false // perhaps: a server that validates reported SERVFAIL
	began := time.Now()
	at := began
	for i := range max(len(servers), 2) {
		server, timeout := servers[i%len(servers)], now.options.Timeout
		if i > 0 {
			timeout = timeout * 5 / 3
		}
		if timeout = min(timeout, until.Sub(at)); timeout <= 0 || ctx.Err() != nil {
			break
		}
		if bogus && !now.validates(server) {
			continue // it would return an insecure answer
		}
		answer, took, err := s.query(ctx, now, server, q, at, timeout)
		at = at.Add(took)
		if now.options.Observe != nil {
			now.options.Observe(q.Type, rcodeLabel(answer, err), took)
		}
		if err == nil {
			trusted := now.Result == Validating // only servers that passed are asked then
			rrset, ttl, wrong := answer.RRset(q, trusted)
			if wrong == nil {
				now.health.succeeded()
				rrset.Expires, rrset.Epoch = at.Add(ttl), epoch.Answers
				return rrset, nil
			}
			failed, _ = errors.AsType[*dns.Error](wrong)
			reason = server.String() + ": " + failed.Reason
			bogus = bogus || answer.Rcode() == dnsmsg.ServerFailure && now.validates(server)
		} else if failed == nil {
			reason = server.String() + ": " + networkReason(err)
			failed = &dns.Error{Question: q.Question(), Reason: reason, Err: err}
		}
		if len(servers) == 1 && !timedOut(err) {
			break
		}
	}
	// Otherwise the caller left before a server could answer.
	if ctx.Err() == nil || at.Sub(began) >= now.options.Timeout {
		now.health.failed(q.Question(), began, reason)
	}
	if failed == nil {
		failed = &dns.Error{Question: q.Question(), Reason: reason, Err: cmp.Or(ctx.Err(), context.DeadlineExceeded)}
	}
	failed.Epoch = epoch
	return nil, failed
}

// candidates returns the servers that may be asked: only those that have passed the self-test, if some have. Those that
// answered last time come first.
func (st *state) candidates() []*server {
	servers := st.servers
	if st.Result == Validating {
		servers = st.passed
	}
	order := servers
	for _, s := range servers {
		if s.failing.Load() {
			order = append(slices.DeleteFunc(slices.Clone(order), func(o *server) bool { return o == s }), s)
		}
	}
	return order
}

// validates reports whether a server recognises bogus answers, as far as is known.
func (st *state) validates(server *server) bool {
	if st.Result != NotTrusted {
		return slices.Contains(st.passed, server)
	}
	yes, _ := st.options.trusts([]Server{server.Server}) // none has been tested
	return yes
}

// query sends a query once and notes whether the server answers, and after how long.
func (s *Stub) query(ctx context.Context, now *state, server *server, q dnsmsg.Query, sent time.Time,
	timeout time.Duration,
) (answer *dnsmsg.Answer, took time.Duration, err error) {
	answer, err = s.exchange(server, ctx, q, sent.Add(timeout))
	took = time.Since(sent)
	if err != nil && ctx.Err() != nil {
		return nil, took, err // the caller left, which is not a failure of the server
	}
	if err != nil || took >= slowAnswer {
		now.health.doubt.Store(true)
	}
	if server.failing.Swap(err != nil) && err == nil {
		s.retest() // it may have been restarted with other settings
	}
	return answer, took, err
}

// send sends a query of our own once.
func (s *Stub) send(ctx context.Context, now *state, server *server, q dnsmsg.Query) (*dnsmsg.Answer, error) {
	return s.exchange(server, ctx, q, time.Now().Add(now.options.Timeout))
}

// rcodeLabel is the Rcode of Options.Observe.
func rcodeLabel(answer *dnsmsg.Answer, err error) string {
	switch {
	case err == nil:
		return answer.Rcode().String()
	case timedOut(err):
		return "timeout"
	}
	return "error"
}

// SignatureExpires returns when the first of the signatures over an RRset expires (RFC 4034 section 3.1.5), those of
// other names on a CNAME chain included, or false if the server returns none (RFC 4035 section 3.2.1). It is for
// display only.
func (s *Stub) SignatureExpires(ctx context.Context, q dns.Question) (end time.Time, ok bool) {
	now := s.now.Load()
	query, _ := dnsmsg.NewQuery(q)
	answer, err := s.send(ctx, now, now.candidates()[0], query)
	if err != nil {
		return time.Time{}, false
	}
	return answer.SignatureExpires(q.Type)
}
