package admin

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/socketmap"
)

// The endpoints for mail servers other than Postfix.
const (
	GetPolicy Endpoint[Question, explain.Policy] = "GET /v1/policy"
	GetRoute  Endpoint[Question, RouteAnswer]    = "GET /v1/route"
)

// MaxQuestions bounds the connections of mail servers, each of which has one question.
const MaxQuestions = 256

// Question names the domain, or another next hop, of a mail.
type Question struct {
	Domain string `json:"domain"`
}

func (q *Question) check() error { return checkNexthop("domain", q.Domain) }

// RouteAnswer is the route of a domain over the port of implicit TLS.
type RouteAnswer struct {
	Nexthop   string          `json:"nexthop"`
	Transport socketmap.Reply `json:"transport"`
	Would     socketmap.Reply `json:"would_transport"`
	Why       []string        `json:"why"`
}

// Questions returns the handler for mail servers other than Postfix, which has only the two endpoints of AddQuestions.
// It closes a connection after one answer, so that idle clients do not keep others waiting. A request ends with ctx, so
// that open requests are answered when policyd stops. It does not end with its connection: Exim closes its side for
// writing after the question, and net/http would then cancel the request as if the client had left.
func Questions(
	ctx context.Context, deliver, query func(ctx context.Context, nexthop string) explain.Result,
	log *slog.Logger,
) http.Handler {
	s := NewServer(MaxQuestions, log)
	s.AddQuestions(deliver, query)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		s.ServeHTTP(w, r.WithContext(ctx))
	})
}

// AddQuestions adds the two questions of mail servers. A question about a policy calls deliver, because it counts as a
// lookup for mail to the next hop; one about a route calls query, which only evaluates the next hop.
func (s *Server) AddQuestions(deliver, query func(ctx context.Context, nexthop string) explain.Result) {
	Evaluate(s, GetPolicy, func(ctx context.Context, q Question) explain.Policy {
		return deliver(ctx, q.Domain).Policy
	})
	Evaluate(s, GetRoute, func(ctx context.Context, q Question) RouteAnswer {
		x := query(ctx, q.Domain)
		return RouteAnswer{Nexthop: x.Nexthop, Transport: x.Transport, Would: x.WouldTransport, Why: x.WhyTransport}
	})
}
