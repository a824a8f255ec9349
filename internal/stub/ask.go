package stub

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// ask asks the candidates of a state one after the other, until there is a useful answer or the lookup must end.
//
// Each server is asked once. If there is only one, it is asked a second time after a timeout, but not after another
// error. After a SERVFAIL from a server that validates, the name may be bogus: a server that does not validate would
// return it as insecure, so it is skipped.
//
// If there is no useful answer, the error is what a server reported last, such as SERVFAIL, which says more than a
// timeout. If no server answered, it is the first failure of the network.
func (s *Stub) ask(ctx context.Context, st *state, q dnsmsg.Query, until time.Time) (*dns.RRset, error) {
	servers, epoch := st.candidates(), s.epoch(st)
	began := time.Now()
	at := began // when the next query is sent
	perhapsBogus := false
	var failed *dns.Error
	reason := "no time left" // what failed, and at which server, for State
	for i := range max(len(servers), 2) {
		server, timeout := servers[i%len(servers)], st.options.Timeout
		if i > 0 {
			timeout = st.options.retryTimeout()
		}
		timeout = min(timeout, until.Sub(at))
		if timeout <= 0 || ctx.Err() != nil {
			break
		}
		if perhapsBogus && !st.validates(server) {
			continue
		}
		answer, took, err := s.query(ctx, st, server, q, at, timeout)
		at = at.Add(took)
		if st.options.Observe != nil {
			st.options.Observe(q.Type, rcodeLabel(answer, err), took)
		}
		if err == nil {
			adCounts := st.Result == Validating // then this server has passed: see trust.go
			rrset, ttl, unusable := answer.RRset(q, adCounts)
			if unusable == nil {
				st.health.succeeded()
				rrset.Expires, rrset.Epoch = at.Add(ttl), epoch.Answers
				return rrset, nil
			}
			failed, _ = errors.AsType[*dns.Error](unusable)
			reason = server.String() + ": " + failed.Reason
			perhapsBogus = perhapsBogus || answer.Rcode() == dnsmsg.ServerFailure && st.validates(server)
		} else if failed == nil {
			reason = server.String() + ": " + networkReason(err)
			failed = &dns.Error{Question: q.Question(), Reason: reason, Err: err}
		}
		if len(servers) == 1 && !timedOut(err) {
			break
		}
	}
	// If the caller gave up before a server could answer, that says nothing about the servers.
	if ctx.Err() == nil || at.Sub(began) >= st.options.Timeout {
		st.health.failed(q.Question(), began, reason)
	}
	if failed == nil { // no server was asked
		failed = &dns.Error{Question: q.Question(), Reason: reason, Err: cmp.Or(ctx.Err(), context.DeadlineExceeded)}
	}
	failed.Epoch = epoch
	return nil, failed
}

// query sends a query once. It records in the health of the servers whether this one answers, and how fast.
func (s *Stub) query(ctx context.Context, st *state, server *server, q dnsmsg.Query, sent time.Time,
	timeout time.Duration,
) (answer *dnsmsg.Answer, took time.Duration, err error) {
	answer, err = s.exchange(server, ctx, q, sent.Add(timeout))
	took = time.Since(sent)
	if err != nil && ctx.Err() != nil {
		return nil, took, err // the caller gave up, which is not a failure of the server
	}
	if err != nil || took >= slowAnswer {
		st.health.suspect.Store(true)
	}
	wasFailing := server.failing.Swap(err != nil)
	if wasFailing && err == nil {
		s.requestSelfTest() // it may have been restarted with other settings
	}
	return answer, took, err
}

// send sends a query of our own once. Whether the server answers it is not noted.
func (s *Stub) send(ctx context.Context, st *state, server *server, q dnsmsg.Query) (*dnsmsg.Answer, error) {
	return s.exchange(server, ctx, q, time.Now().Add(st.options.Timeout))
}

// rcodeLabel returns the rcode that Options.Observe gets.
func rcodeLabel(answer *dnsmsg.Answer, err error) string {
	switch {
	case err == nil:
		return answer.Rcode().String()
	case timedOut(err):
		return "timeout"
	}
	return "error"
}

// SignatureExpires asks a server, and returns what dnsmsg.Answer.SignatureExpires says about its answer, or false if
// there is none. It is for display only.
func (s *Stub) SignatureExpires(ctx context.Context, q dns.Question) (end time.Time, ok bool) {
	st := s.current.Load()
	query, _ := dnsmsg.NewQuery(q)
	answer, err := s.send(ctx, st, st.candidates()[0], query)
	if err != nil {
		return time.Time{}, false
	}
	return answer.SignatureExpires(q.Type)
}
