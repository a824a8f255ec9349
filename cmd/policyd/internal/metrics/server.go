package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler returns /metrics and the two questions of a supervisor, /-/healthy and /-/ready, for GET and HEAD. It changes
// nothing. ready returns nil when lookups are answered, otherwise what they wait for.
func Handler(metrics prometheus.Gatherer, ready func() error, log *slog.Logger) http.Handler {
	const scrapes, scrapeTimeout = 4, 10 * time.Second
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: scrapes, Timeout: scrapeTimeout,
	}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "healthy", http.StatusOK)
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		http.Error(w, "ready", http.StatusOK)
	})
	return mux
}
