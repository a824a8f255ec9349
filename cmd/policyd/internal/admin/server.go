package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/report"
)

// maxExplaining bounds the evaluations at a time: each may ask DNS for ten seconds.
const maxExplaining = 8

// Server serves the API. Make one with NewServer.
type Server struct {
	daemon    Daemon
	log       *slog.Logger
	explained chan struct{} // a token for each explanation under way
}

// NewServer returns a server for d.
func NewServer(d Daemon, log *slog.Logger) *Server {
	return &Server{daemon: d, log: log, explained: make(chan struct{}, maxExplaining)}
}

// Run serves l until ctx ends, as httpd.Run does.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if err := httpd.Run(ctx, l, s.Handler(), httpd.ForOperator, s.log); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

// MaxQuestions bounds the connections of mail servers, each of which has one question.
const MaxQuestions = 256

// RunQuestions serves the two questions of mail servers on l, and nothing else, until ctx ends.
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
	h := map[string]http.HandlerFunc{}
	s.questions(h)
	served := s.serve(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		served.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *Server) questions(h map[string]http.HandlerFunc) {
	on(h, GetPolicy, bounded(s, func(ctx context.Context, q Question) lookup.PolicyAnswer {
		return s.daemon.Lookup(ctx, q.Domain).PolicyAnswer
	}))
	on(h, GetRoute, bounded(s, func(ctx context.Context, q Question) lookup.RouteAnswer {
		x := s.daemon.Explain(ctx, q.Domain)
		return lookup.RouteAnswer{
			Nexthop: x.Nexthop, Transport: x.Transport, Would: x.WouldTransport, Why: x.WhyTransport,
		}
	}))
}

// Handler returns the API, for Run and for tests.
func (s *Server) Handler() http.Handler {
	d, h := s.daemon, map[string]http.HandlerFunc{}
	on(h, GetStatus, always(s.status))
	on(h, ListCache, always(d.List))
	on(h, GetDomain, always(func(q DomainRequest) status.Domain { return d.Get(q.Domain) }))
	on(h, FlushCache, always(s.flush))
	on(h, DoReload, s.reload)
	on(h, GetLevel, always(s.level))
	on(h, SetLevel, always(s.setLevel))
	on(h, Explain, bounded(s, func(ctx context.Context, n Nexthop) lookup.Explanation {
		return d.Explain(ctx, n.Nexthop)
	}))
	on(h, GetReport, always(func(q ReportRequest) report.Report { return d.Report(q.Since) }))
	on(h, ListPromises, always(d.Promises))
	on(h, GetPromise, s.promise)
	on(h, ForgetPromise, always(s.forget))
	on(h, Warm, bounded(s, func(ctx context.Context, q DomainRequest) Warmed { return d.Warm(ctx, q.Domain) }))
	s.questions(h)
	return s.serve(h)
}

// on adds the handler of an endpoint to h, which is by method and path: do answers a request. An error of do is a
// RefusedError.
func on[Q, A any](h map[string]http.HandlerFunc, e Endpoint[Q, A], do func(context.Context, Q) (A, error)) {
	h[string(e)] = func(w http.ResponseWriter, r *http.Request) {
		q, err := decode[Q](r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		answer, err := do(r.Context(), q)
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			refuse(w, refused.Code, refused.Message)
			return
		}
		write(w, http.StatusOK, answer)
	}
}

// serve returns a handler that refuses everything else.
func (s *Server) serve(h map[string]http.HandlerFunc) http.Handler {
	methods := map[string][]string{}
	for e := range h {
		method, path, _ := strings.Cut(e, " ")
		methods[path] = append(methods[path], method)
	}
	mux := http.NewServeMux()
	for path, allowed := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			answer := h[r.Method+" "+path]
			if answer == nil {
				w.Header().Set("Allow", strings.Join(allowed, ", "))
				refuse(w, http.StatusMethodNotAllowed, "method not allowed: use "+strings.Join(allowed, ", "))
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			answer(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "unknown path: see docs/admin-api.md")
	})
	return s.guard(mux)
}

// guard refuses requests without a path, and turns a panic into an answer and a line in the log.
func (s *Server) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		h.ServeHTTP(w, r)
	})
}

// always is a function without a context or an error, for on.
func always[Q, A any](f func(Q) A) func(context.Context, Q) (A, error) {
	return func(_ context.Context, q Q) (A, error) { return f(q), nil }
}

// bounded is f, with a bound on how many evaluations run concurrently.
func bounded[Q, A any](s *Server, f func(context.Context, Q) A) func(context.Context, Q) (A, error) {
	return func(ctx context.Context, q Q) (answer A, err error) {
		select {
		case s.explained <- struct{}{}:
			defer func() { <-s.explained }()
			return f(ctx, q), nil
		default:
			return answer, &RefusedError{http.StatusServiceUnavailable, "too many concurrent queries: try again"}
		}
	}
}

func (s *Server) status(struct{}) status.Status {
	st := s.daemon.Status()
	st.LogLevel = levelText(s.daemon.Level.Level())
	st.Warnings = append(st.Warn(), st.Warnings...)
	return st
}

func (s *Server) flush(f FlushRequest) Flushed {
	flushed := s.daemon.Flush(f)
	s.log.Info("cache flushed by the operator", "what", cmp.Or(f.Domain, "everything"), "sts", f.STS, "entries",
		flushed.Cache, "policies", flushed.Policies)
	return flushed
}

func (s *Server) reload(context.Context, struct{}) (status.Reload, error) {
	reload, err := s.daemon.Reload()
	if err != nil {
		return reload, &RefusedError{http.StatusUnprocessableEntity, err.Error()}
	}
	return reload, nil
}

func (s *Server) level(struct{}) Level { return Level{Level: levelText(s.daemon.Level.Level())} }

func (s *Server) setLevel(wanted Level) Level {
	l, _ := ParseLevel(wanted.Level) // checked
	before := s.daemon.Level.Level()
	s.daemon.Level.Set(l)
	s.log.Warn("log level changed by the operator", "before", levelText(before), "now", levelText(l))
	return s.level(struct{}{})
}

func (s *Server) promise(_ context.Context, q DomainRequest) (status.Promise, error) {
	p, ok := s.daemon.Promise(q.Domain)
	if !ok {
		return p, &RefusedError{http.StatusNotFound, "nothing is remembered about " + q.Domain}
	}
	return p, nil
}

func (s *Server) forget(q DomainRequest) Forgotten {
	forgotten := s.daemon.Forget(q.Domain)
	s.log.Info("promises forgotten by the operator", "nexthop", q.Domain, "known", forgotten)
	return Forgotten{forgotten}
}

func refuse(w http.ResponseWriter, code int, message string) {
	write(w, code, map[string]string{"error": message})
}

func write[T any](w http.ResponseWriter, code int, v T) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // a client that has gone gets no answer
}
