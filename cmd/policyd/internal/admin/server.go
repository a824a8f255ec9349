package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"golang.org/x/sync/semaphore"
)

// MaxEvaluations bounds concurrent evaluations for the operator: each may query DNS for ten seconds.
const MaxEvaluations = 8

// Server serves the endpoints for which Handle, Answer and Evaluate add a function. Each function is called by several
// goroutines concurrently. Make one with NewServer.
type Server struct {
	mux        http.ServeMux
	evaluating *semaphore.Weighted
	log        *slog.Logger
}

// NewServer returns a server without endpoints that runs at most that many evaluations at a time.
func NewServer(evaluations int, log *slog.Logger) *Server {
	return &Server{evaluating: semaphore.NewWeighted(int64(evaluations)), log: log}
}

// Handle adds the function that answers or refuses the requests of an endpoint.
func Handle[Q, A any](s *Server, e Endpoint[Q, A], do func(context.Context, Q) (A, *RefusedError)) {
	s.mux.HandleFunc(string(e), func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		q, err := decode[Q](r)
		if err != nil {
			write(w, http.StatusBadRequest, RefusedError{Message: err.Error()})
		} else if answer, refused := do(r.Context(), q); refused != nil {
			write(w, refused.Code, refused)
		} else {
			write(w, http.StatusOK, answer)
		}
	})
}

// Answer adds a function that neither waits nor refuses.
func Answer[Q, A any](s *Server, e Endpoint[Q, A], do func(Q) A) {
	Handle(s, e, func(_ context.Context, q Q) (A, *RefusedError) { return do(q), nil })
}

// Evaluate adds a function that evaluates next hops. The number of concurrent evaluations is bounded.
func Evaluate[Q, A any](s *Server, e Endpoint[Q, A], do func(context.Context, Q) A) {
	Handle(s, e, func(ctx context.Context, q Q) (answer A, refused *RefusedError) {
		if !s.evaluating.TryAcquire(1) {
			return answer, &RefusedError{http.StatusServiceUnavailable, "too many concurrent queries: try again"}
		}
		defer s.evaluating.Release(1)
		return do(ctx, q), nil
	})
}

// ServeHTTP answers a request. A panic becomes an answer and a line in the log.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in an admin request: please report this", "path", r.URL.Path, "err", fmt.Sprint(p),
				"stack", string(debug.Stack()))
			write(w, http.StatusInternalServerError, RefusedError{Message: "internal error"})
		}
	}()
	s.mux.ServeHTTP(w, r)
}

func write(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the client may have left
}
