package admin

import (
	"net/http"

	"github.com/policyd/policyd/internal/lookup"
)

// PolicyAnswer is the TLS policy for a domain, for mail servers other than Postfix. The values are those of an
// lookup.Explanation.
type PolicyAnswer struct {
	Nexthop   string        `json:"nexthop"`
	DNSSEC    string        `json:"dnssec"`
	TLSPolicy lookup.Answer `json:"tls_policy"`
	Source    string        `json:"source"`
	Unsigned  bool          `json:"unsigned"`
	Why       []string      `json:"why"`
}

// RouteAnswer is the route over the port of implicit TLS for a domain.
type RouteAnswer struct {
	Nexthop   string        `json:"nexthop"`
	Transport lookup.Answer `json:"transport"`
	Why       []string      `json:"why"`
}

// policy answers GET /v1/policy?domain=.
func (s *Server) policy(w http.ResponseWriter, r *http.Request) {
	if x, ok := s.explanation(w, r, "domain"); ok {
		answer(w, PolicyAnswer{
			Nexthop: x.Nexthop, DNSSEC: x.DNSSEC, TLSPolicy: x.TLSPolicy, Source: x.Source, Unsigned: x.Unsigned, Why: x.Why,
		})
	}
}

// route answers GET /v1/route?domain=.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if x, ok := s.explanation(w, r, "domain"); ok {
		answer(w, RouteAnswer{Nexthop: x.Nexthop, Transport: x.Transport, Why: x.WhyTransport})
	}
}

// explanation evaluates the next hop in a parameter. If it returns false, it has refused the request.
func (s *Server) explanation(w http.ResponseWriter, r *http.Request, parameter string) (lookup.Explanation, bool) {
	next, err := decodeNexthop(r.URL.Query(), parameter)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return lookup.Explanation{}, false
	}
	select {
	case s.explained <- struct{}{}:
		defer func() { <-s.explained }()
	default:
		refuse(w, http.StatusServiceUnavailable, "too many concurrent queries: try again")
		return lookup.Explanation{}, false
	}
	return s.daemon.Explain(r.Context(), next), true
}
