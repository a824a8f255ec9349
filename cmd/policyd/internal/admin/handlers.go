package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
)

// Handler returns the API, for Run and for tests.
func (s *Server) Handler() http.Handler {
	return s.serve(map[string]methods{
		"/v1/status":            {http.MethodGet: s.status},
		"/v1/cache":             {http.MethodGet: s.list},
		"/v1/cache/{domain}":    {http.MethodGet: s.get},
		"/v1/cache/flush":       {http.MethodPost: s.flush},
		"/v1/reload":            {http.MethodPost: s.reload},
		"/v1/log-level":         {http.MethodGet: s.level, http.MethodPut: s.setLevel},
		"/v1/query":             {http.MethodGet: s.explain},
		"/v1/policy":            {http.MethodGet: s.policy},
		"/v1/route":             {http.MethodGet: s.route},
		"/v1/report":            {http.MethodGet: s.report},
		"/v1/promises":          {http.MethodGet: s.promises},
		"/v1/promises/{domain}": {http.MethodGet: s.promise},
		"/v1/promises/forget":   {http.MethodPost: s.forget},
		"/v1/warm":              {http.MethodPost: s.warm},
	})
}

// methods are the handlers of a path by method.
type methods map[string]http.HandlerFunc

// serve returns a handler for some paths that refuses everything else.
func (s *Server) serve(paths map[string]methods) http.Handler {
	mux := http.NewServeMux()
	for path, by := range paths {
		var allowed []string
		for method := range by {
			allowed = append(allowed, method)
		}
		slices.Sort(allowed)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			handle := by[r.Method]
			if handle == nil {
				w.Header().Set("Allow", strings.Join(allowed, ", "))
				refuse(w, http.StatusMethodNotAllowed, r.Method+" is not for "+path)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			handle(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "there is nothing here: docs/admin-api.md has the paths")
	})
	return s.guard(mux)
}

// guard refuses requests without a path, and turns a panic into an answer and a line in the log.
func (s *Server) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("panic in an admin request: please report this", "path", r.URL.Path, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
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

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if err := only(r.URL.Query()); err != nil {
		refuse(w, http.StatusBadRequest, "there are no parameters here")
		return
	}
	st := s.daemon.Status()
	st.LogLevel = levelText(s.daemon.Level.Level())
	st.Warnings = append(st.warn(), st.Warnings...)
	answer(w, st)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	f, err := decodeFilter(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, s.daemon.List(f))
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	domain, err := domainName(r.PathValue("domain"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, s.daemon.Get(domain))
}

func (s *Server) flush(w http.ResponseWriter, r *http.Request) {
	f, err := decodeFlush(r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	flushed, err := s.daemon.Flush(f)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	what := f.Domain
	if f.All {
		what = "everything"
	}
	s.log.Info("cache flushed by the operator", "what", what, "sts", f.STS, "entries", flushed.Cache, "policies", flushed.Policies)
	answer(w, flushed)
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	reload, err := s.daemon.Reload(r.Context())
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, reload)
}

func (s *Server) level(w http.ResponseWriter, _ *http.Request) {
	answer(w, Level{Level: levelText(s.daemon.Level.Level())})
}

func (s *Server) setLevel(w http.ResponseWriter, r *http.Request) {
	l, err := decodeLevel(r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	before := s.daemon.Level.Level()
	s.daemon.Level.Set(l)
	s.log.Warn("log level changed by the operator", "before", levelText(before), "now", levelText(l))
	s.level(w, r)
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	since, err := decodeSince(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, s.daemon.Report(since))
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	if x, ok := s.explanation(w, r, "nexthop", s.daemon.Explain); ok {
		answer(w, x)
	}
}

func answer[T any](w http.ResponseWriter, v T) { write(w, http.StatusOK, v) }

func refuse(w http.ResponseWriter, code int, message string) {
	write(w, code, Refusal{Message: message})
}

func write[T any](w http.ResponseWriter, code int, v T) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // who does not wait for the answer does not get it
}
