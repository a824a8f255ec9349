package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sync/semaphore"
)

// MaxEvaluations bounds the evaluations for the operator at a time: each may ask DNS for ten seconds.
const MaxEvaluations = 8

// Server serves the endpoints for which Handle, Answer and Evaluate add a function. Each function is called by several
// goroutines concurrently. Make one with NewServer.
type Server struct {
	mux        *http.ServeMux
	methods    map[string]map[string]http.HandlerFunc // by path and method
	evaluating *semaphore.Weighted
	log        *slog.Logger
}

// NewServer returns a server without endpoints that runs at most that many evaluations at a time.
func NewServer(evaluations int, log *slog.Logger) *Server {
	s := &Server{
		mux: http.NewServeMux(), methods: map[string]map[string]http.HandlerFunc{},
		evaluating: semaphore.NewWeighted(int64(evaluations)), log: log,
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "unknown path: see docs/admin-api.md")
	})
	return s
}

// Handle adds the function that answers or refuses the requests of an endpoint.
func Handle[Q, A any](s *Server, e Endpoint[Q, A], do func(context.Context, Q) (A, *RefusedError)) {
	method, path, _ := strings.Cut(string(e), " ")
	if s.methods[path] == nil {
		s.methods[path] = map[string]http.HandlerFunc{}
		s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { dispatch(w, r, s.methods[path]) })
	}
	s.methods[path][method] = func(w http.ResponseWriter, r *http.Request) {
		q, err := decode[Q](r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
		} else if answer, refused := do(r.Context(), q); refused != nil {
			write(w, refused.Code, refused)
		} else {
			write(w, http.StatusOK, answer)
		}
	}
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
			refuse(w, http.StatusInternalServerError, "internal error")
		}
	}()
	if !strings.HasPrefix(r.URL.Path, "/") || r.Method == http.MethodConnect {
		refuse(w, http.StatusBadRequest, "a path is needed: docs/admin-api.md has them")
		return
	}
	s.mux.ServeHTTP(w, r)
}

// dispatch calls the handler for the method of a request.
func dispatch(w http.ResponseWriter, r *http.Request, methods map[string]http.HandlerFunc) {
	if methods[r.Method] == nil {
		allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
		w.Header().Set("Allow", allowed)
		refuse(w, http.StatusMethodNotAllowed, "method not allowed: use "+allowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	methods[r.Method](w, r)
}

func refuse(w http.ResponseWriter, code int, message string) {
	write(w, code, RefusedError{code, message})
}

func write(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // a client that has gone gets no answer
}
