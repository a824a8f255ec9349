package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
)

// Handler returns the API, for Run and for tests.
func (s *Server) Handler() http.Handler {
	const get, post, put = http.MethodGet, http.MethodPost, http.MethodPut
	d := s.daemon
	return s.serve(map[string]methods{
		"/v1/status":            {get: handle(noParameters, always(s.status))},
		"/v1/cache":             {get: handle(cacheFilter, always(d.List))},
		"/v1/cache/{domain}":    {get: handle(domainInPath, always(d.Get))},
		"/v1/cache/flush":       {post: handle(flushRequest, always(s.flush))},
		"/v1/reload":            {post: handle(ignored, s.reload)},
		"/v1/log-level":         {get: handle(ignored, always(s.level)), put: handle(levelRequest, always(s.setLevel))},
		"/v1/query":             {get: handle(nexthop("nexthop"), evaluate(s, d.Explain))},
		"/v1/policy":            {get: s.policy()},
		"/v1/route":             {get: s.route()},
		"/v1/report":            {get: handle(reportTime, always(d.Report))},
		"/v1/promises":          {get: handle(promiseFilter, always(d.Promises))},
		"/v1/promises/{domain}": {get: handle(domainInPath, s.promise)},
		"/v1/promises/forget":   {post: handle(domainInBody, always(s.forget))},
		"/v1/warm":              {post: handle(domainInBody, evaluate(s, d.Warm))},
	})
}

// methods are the handlers of a path by method.
type methods map[string]http.HandlerFunc

// serve returns a handler for some paths that refuses everything else.
func (s *Server) serve(paths map[string]methods) http.Handler {
	mux := http.NewServeMux()
	for path, by := range paths {
		allowed := strings.Join(slices.Sorted(maps.Keys(by)), ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			answer := by[r.Method]
			if answer == nil {
				w.Header().Set("Allow", allowed)
				refuse(w, http.StatusMethodNotAllowed, "method "+r.Method+" not allowed: use "+allowed)
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

// handle returns the handler for one method of a path: decode reads the request, and do answers it. An error of do is a
// RefusedError.
func handle[Q, A any](decode func(*http.Request) (Q, error), do func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		question, err := decode(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		answer, err := do(r.Context(), question)
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			refuse(w, refused.Code, refused.Message)
			return
		}
		write(w, http.StatusOK, answer)
	}
}

// always is a function without a context or an error, for handle.
func always[Q, A any](f func(Q) A) func(context.Context, Q) (A, error) {
	return func(_ context.Context, question Q) (A, error) { return f(question), nil }
}

// noParameters refuses a request with parameters; ignored takes any request.
func noParameters(r *http.Request) (struct{}, error) { return struct{}{}, only(r.URL.Query()) }
func ignored(*http.Request) (struct{}, error)        { return struct{}{}, nil }

func cacheFilter(r *http.Request) (Filter, error) {
	return decodeFilter(r.URL.Query(), "match", "limit")
}

func promiseFilter(r *http.Request) (Filter, error) {
	return decodeFilter(r.URL.Query(), "match", "limit", "vanished")
}

func domainInPath(r *http.Request) (string, error) { return domainName(r.PathValue("domain")) }

func domainInBody(r *http.Request) (string, error) {
	body, err := decode[DomainRequest](r.Body)
	if err != nil {
		return "", err
	}
	return domainName(body.Domain)
}

func nexthop(parameter string) func(*http.Request) (string, error) {
	return func(r *http.Request) (string, error) { return decodeNexthop(r.URL.Query(), parameter) }
}

func (s *Server) status(struct{}) Status {
	st := s.daemon.Status()
	st.LogLevel = levelText(s.daemon.Level.Level())
	st.Warnings = append(st.warn(), st.Warnings...)
	return st
}

func (s *Server) flush(f FlushRequest) Flushed {
	flushed := s.daemon.Flush(f)
	s.log.Info("cache flushed by the operator", "what", cmp.Or(f.Domain, "everything"), "sts", f.STS, "entries",
		flushed.Cache, "policies", flushed.Policies)
	return flushed
}

func (s *Server) reload(context.Context, struct{}) (Reload, error) {
	reload, err := s.daemon.Reload()
	if err != nil {
		return reload, &RefusedError{http.StatusUnprocessableEntity, err.Error()}
	}
	return reload, nil
}

func (s *Server) level(struct{}) Level { return Level{Level: levelText(s.daemon.Level.Level())} }

func (s *Server) setLevel(l slog.Level) Level {
	before := s.daemon.Level.Level()
	s.daemon.Level.Set(l)
	s.log.Warn("log level changed by the operator", "before", levelText(before), "now", levelText(l))
	return s.level(struct{}{})
}

func (s *Server) promise(_ context.Context, domain string) (Promise, error) {
	p, ok := s.daemon.Promise(domain)
	if !ok {
		return p, &RefusedError{http.StatusNotFound, "nothing is remembered about " + domain}
	}
	return p, nil
}

func (s *Server) forget(domain string) Forgotten {
	forgotten := s.daemon.Forget(domain)
	s.log.Info("promises forgotten by the operator", "nexthop", domain, "known", forgotten)
	return Forgotten{forgotten}
}

// evaluate bounds concurrent evaluations by f.
func evaluate[A any](s *Server, f func(context.Context, string) A) func(context.Context, string) (A, error) {
	return func(ctx context.Context, nexthop string) (answer A, err error) {
		select {
		case s.explained <- struct{}{}:
			defer func() { <-s.explained }()
			return f(ctx, nexthop), nil
		default:
			return answer, &RefusedError{http.StatusServiceUnavailable, "too many concurrent queries: try again"}
		}
	}
}

func refuse(w http.ResponseWriter, code int, message string) {
	write(w, code, Refusal{Message: message})
}

func write[T any](w http.ResponseWriter, code int, v T) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // a client that has gone gets no answer
}
