package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
	"github.com/policyd/policyd/internal/lookup"
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

// PolicyAnswer is the TLS policy for a domain, with the values of a lookup.Explanation. Why belongs to Would.
type PolicyAnswer struct {
	Nexthop   string        `json:"nexthop"`
	DNSSEC    string        `json:"dnssec"`
	TLSPolicy lookup.Answer `json:"tls_policy"`
	Would     lookup.Answer `json:"would_tls_policy"`
	Source    string        `json:"source"`
	Unsigned  bool          `json:"unsigned"`
	Why       []string      `json:"why"`
}

// RouteAnswer is the route over the port of implicit TLS for a domain.
type RouteAnswer struct {
	Nexthop   string        `json:"nexthop"`
	Transport lookup.Answer `json:"transport"`
	Would     lookup.Answer `json:"would_transport"`
	Why       []string      `json:"why"`
}

// questions adds the handlers of the two questions.
func (s *Server) questions(h handlers) {
	on(h, GetPolicy, bounded(s, func(ctx context.Context, q Question) PolicyAnswer {
		x := s.daemon.Lookup(ctx, q.Domain)
		return PolicyAnswer{
			Nexthop: x.Nexthop, DNSSEC: x.DNSSEC, TLSPolicy: x.TLSPolicy, Would: x.WouldTLSPolicy, Source: x.Source,
			Unsigned: x.Unsigned, Why: x.Why,
		}
	}))
	on(h, GetRoute, bounded(s, func(ctx context.Context, q Question) RouteAnswer {
		x := s.daemon.Explain(ctx, q.Domain)
		return RouteAnswer{Nexthop: x.Nexthop, Transport: x.Transport, Would: x.WouldTransport, Why: x.WhyTransport}
	}))
}
