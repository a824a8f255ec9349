// Package metrics shows the daemon to Prometheus, in the text format over HTTP. Every label has a small fixed set of
// values: a domain, a host or an address is never one of them, so remote parties cannot create time series.
//
// Frequent events are observed as they happen; the rest is read from a status.Status when Prometheus asks.
package metrics

import (
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/text"
)

const namespace = "policyd"

// Metrics are the metrics of one daemon. Make them with New.
type Metrics struct {
	*prometheus.Registry
	state                func() status.Status
	decisions, queries   *prometheus.CounterVec
	durations, latencies *prometheus.HistogramVec
}

// other is the label of a value that this package does not list; only a programming error can cause one.
const other = "other"

// New registers the metrics of a daemon, of its process and of the Go runtime. It calls state, which returns the
// present status of the daemon, whenever Prometheus asks. It panics if reg has metrics of these names.
func New(reg *prometheus.Registry, state func() status.Status) *Metrics {
	register := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return register.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return register.NewHistogramVec(
			prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		Registry: reg, state: state,
		durations: histogram("lookup_duration_seconds",
			"Time from a request to its reply, by map and whether nothing had to be asked.",
			[]float64{5e-6, 2e-5, 1e-4, 5e-4, .002, .01, .05, .1, .2, .5, 1, 2, 5, 10}, "map", "cached"),
		decisions: counter("decisions_total",
			"Decisions by the mechanism that decided, the class of the answer and the reason.", "source", "class",
			"reason"),
		queries: counter("dns_queries_total",
			"Queries to the DNS servers by type and response code, timeout or error.", "type", "rcode"),
		latencies: histogram("dns_query_duration_seconds", "Time that a DNS server took to answer, by type.",
			[]float64{1e-4, 5e-4, .001, .005, .01, .025, .05, .1, .25, .5, 1, 3, 5}, "type"),
	}
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m)
	// The series that are certain to appear begin at zero, so that rate() counts their first event.
	for _, lookupMap := range []string{"tls-policy", "tls-policy-tlsrpt", "transport"} {
		m.durations.WithLabelValues(lookupMap, "no")
		m.durations.WithLabelValues(lookupMap, "yes")
	}
	for _, t := range []dns.Type{dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeTLSA, dns.TypeTXT} {
		m.latencies.WithLabelValues(t.String())
		for _, rcode := range []string{"NOERROR", "SERVFAIL", "timeout"} {
			m.queries.WithLabelValues(t.String(), rcode)
		}
	}
	return m
}

// Lookup returns a function that observes answers of that kind, for lookup.Sources.Observe. The function does not block
// and does not allocate.
func (m *Metrics) Lookup(k lookup.Kind) func(took time.Duration) {
	durations := m.durations.WithLabelValues(k.Map, text.Either(k.Cached, "yes", "no"))
	if k.Source == "" {
		return func(took time.Duration) { durations.Observe(took.Seconds()) }
	}
	decisions := m.decisions.WithLabelValues(k.Source, k.Class, k.Reason)
	return func(took time.Duration) {
		durations.Observe(took.Seconds())
		decisions.Inc()
	}
}

// Query counts a query to a DNS server. It does not block.
func (m *Metrics) Query(t dns.Type, rcode string, took time.Duration) {
	label := known(t.String(), "A", "AAAA", "CNAME", "MX", "NS", "TLSA", "TXT")
	rcode = known(rcode, "NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "timeout", "error")
	m.queries.WithLabelValues(label, rcode).Inc()
	m.latencies.WithLabelValues(label).Observe(took.Seconds())
}

// known returns a value of a label if it is one of values, so that no server can create time series.
func known(value string, values ...string) string {
	if slices.Contains(values, value) {
		return value
	}
	return other
}

// Handler serves /metrics, and for supervisors /-/healthy and /-/ready, to GET and HEAD. It changes nothing. ready
// returns nil if lookups are answered, and otherwise an error that names what they wait for.
func Handler(metrics prometheus.Gatherer, ready func() error, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
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
