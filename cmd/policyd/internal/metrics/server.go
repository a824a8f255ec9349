package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
)

// Server serves metrics and the two questions of a supervisor. It changes nothing.
type Server struct {
	Gatherer prometheus.Gatherer
	// Ready returns nil when lookups are answered, otherwise what they wait for.
	Ready func() error
	Log   *slog.Logger
}

// Handler returns /metrics, /-/healthy and /-/ready, for GET and HEAD.
func (s *Server) Handler() http.Handler {
	const scrapes, scrapeTimeout = 4, 10 * time.Second
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: scrapes, Timeout: scrapeTimeout,
	}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "healthy") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		say(w, http.StatusOK, "ready")
	})
	return mux
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // a client that has gone gets no answer
}

// Run serves l until ctx ends. The error is that of ctx, or of l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if err := httpd.Run(ctx, l, s.Handler(), httpd.ForOperator, s.Log); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
