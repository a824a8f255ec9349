package stub

import (
	"context"
	"errors"
	"slices"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// ask asks one server after the other, until the lookup must end, and notes how it ended.
func (s *Stub) ask(ctx context.Context, q dns.Question, now *state, until time.Time) (*dns.RRset, error) {
	began := time.Now()
	rrset, reason, err := s.askEach(ctx, q, now, until)
	switch {
	case err == nil:
		now.health.succeeded()
	// else the caller left before a server could answer
	case ctx.Err() == nil, time.Since(began) >= now.options.Timeout:
		now.health.lookupFailed(q, began, reason)
	}
	return rrset, err
}

// askEach asks one server after the other: a timeout or a network error leads to the next try, a failure that a server
// reports to the next server. It returns the first error of a server, and the reason with its name; what a resolver
// reports is worth more than a timeout.
func (s *Stub) askEach(ctx context.Context, q dns.Question, now *state, until time.Time) (
	rrset *dns.RRset, reason string, failed error,
) {
	servers := now.health.order(now.candidates())
	question := inet(miekg.Fqdn(q.Name), q.Type)
	worst := 0 // grade that a server must have to be asked
	for i := range max(len(servers), 2) {
		server := servers[i%len(servers)]
		if now.grade(server) < worst {
			continue
		}
		timeout := now.options.Timeout
		if i > 0 {
			timeout = timeout * 5 / 3
		}
		sent := time.Now()
		if timeout = min(timeout, until.Sub(sent)); timeout <= 0 {
			break
		}
		answer, err := s.query(ctx, now, server, timeout, question)
		if now.options.Observe != nil {
			now.options.Observe(QueryEvent{Type: q.Type, Rcode: rcodeLabel(answer, err), Took: time.Since(sent)})
		}
		if err != nil {
			if failed == nil {
				reason = server.String() + ": " + networkReason(err)
				failed = &dns.Error{Question: q, Reason: reason, Err: err}
			}
			if ctx.Err() != nil || len(servers) == 1 && !timedOut(err) {
				break
			}
			continue
		}
		rrset, ttl, err := interpret(answer, q, now.result == Validating && slices.Contains(now.passed, server))
		if err == nil {
			rrset.Expires = time.Now().Add(ttl)
			return rrset, "", nil
		}
		reason, failed = server.String()+": "+dns.Reason(err), err
		if answer.Rcode == miekg.RcodeServerFailure {
			// The name may be bogus: a server that validates less would return an insecure answer.
			worst = max(worst, now.grade(server))
		}
		if ctx.Err() != nil || len(servers) == 1 {
			break
		}
	}
	if failed == nil {
		reason = "no time left"
		failed = &dns.Error{Question: q, Reason: reason, Err: context.DeadlineExceeded}
	}
	return nil, reason, failed
}

// candidates returns the servers that may be asked. If some have passed the self-test, the others are left out: they
// may not validate, so their answers could be weaker.
func (st *state) candidates() []Server {
	if st.result == Validating {
		return st.passed
	}
	return st.servers
}

// grade orders servers by how likely they are to recognise a bogus answer.
func (st *state) grade(server Server) int {
	grade := 0
	if yes, _ := st.options.trusts([]Server{server}); yes {
		grade++
	}
	if slices.Contains(st.passed, server) {
		grade++
	}
	return grade
}

// query sends a query once and notes whether the server answers.
func (s *Stub) query(ctx context.Context, now *state, server Server, timeout time.Duration, q miekg.Question) (
	*miekg.Msg, error,
) {
	began := time.Now()
	answer, err := s.send(ctx, now, server, timeout, q)
	switch {
	case err == nil:
		again, log := now.health.answered(server, time.Since(began))
		if log {
			now.options.Logger.Info("a DNS server answers again", "server", server.String())
		}
		if again {
			s.testAgain()
		}
	case ctx.Err() == nil: // else the caller has left, which is not a failure of the server
		now.health.failed(server)
	}
	return answer, err
}

// send sends a query once.
func (s *Stub) send(ctx context.Context, now *state, server Server, timeout time.Duration,
	q miekg.Question) (*miekg.Msg, error) {
	return s.exchange(now.transport, ctx, server, q, time.Now().Add(timeout))
}

// rcodeLabel is QueryEvent.Rcode.
func rcodeLabel(answer *miekg.Msg, err error) string {
	switch {
	case err == nil:
		return rcodeText(answer.Rcode)
	case timedOut(err) && !errors.Is(err, context.Canceled):
		return "timeout"
	}
	return "error"
}
