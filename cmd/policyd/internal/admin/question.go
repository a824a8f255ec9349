package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/socketmap"
)

// MaxQuestions bounds the connections of mail servers, each of which has one question.
const MaxQuestions = 256

// RunQuestions serves the two questions of mail servers on l, and nothing else, until ctx ends. The error is that of
// ctx, or of l.
func (s *Server) RunQuestions(ctx context.Context, l net.Listener) error {
	q := &Server{daemon: s.daemon, log: s.log, explained: make(chan struct{}, MaxQuestions)}
	if err := httpd.Run(ctx, l, q.Questions(ctx), MaxQuestions, s.log); err != nil {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

// Questions returns the two questions of mail servers, for RunQuestions and for tests. A connection is closed after one
// answer, so that idle clients do not keep others waiting. A request ends with ctx and not with its connection: Exim
// closes the connection for writing when it has asked, and net/http treats that as the end of the client.
func (s *Server) Questions(ctx context.Context) http.Handler {
	both := handlers{}
	s.questions(both)
	h := s.serve(both)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// RouteAnswer is the route over the port of implicit TLS for a domain.
type RouteAnswer struct {
	Nexthop   string          `json:"nexthop"`
	Transport socketmap.Reply `json:"transport"`
	Would     socketmap.Reply `json:"would_transport"`
	Why       []string        `json:"why"`
}

// questions adds the handlers of the two questions.
func (s *Server) questions(h handlers) {
	on(h, GetPolicy, bounded(s, func(ctx context.Context, q Question) lookup.PolicyAnswer {
		return s.daemon.Lookup(ctx, q.Domain).PolicyAnswer
	}))
	on(h, GetRoute, bounded(s, func(ctx context.Context, q Question) RouteAnswer {
		x := s.daemon.Explain(ctx, q.Domain)
		return RouteAnswer{Nexthop: x.Nexthop, Transport: x.Transport, Would: x.WouldTransport, Why: x.WhyTransport}
	}))
}
