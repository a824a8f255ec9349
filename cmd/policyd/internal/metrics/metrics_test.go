package metrics_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// status is the status of a daemon that has run for a while.
func busy() status.Status {
	return status.Status{
		Version: "v1.2.3", Go: runtime.Version(), Started: time.Unix(1_700_000_000, 0),
		Resolver: stub.State{Validating: true},
		Lookups: lookup.Stats{Panics: 1, Unsigned: 2, Replies: map[string]map[string]uint64{
			"tls-policy": {"OK": 2, "NOTFOUND": 0, "TEMP": 0, "PERM": 0}, "transport": {"OK": 0, "NOTFOUND": 1, "TEMP": 0, "PERM": 0},
		}},
		Cache: dnscache.Stats{
			Entries: 10, Bytes: 4096, MaxBytes: 8192, Hits: 7, Misses: 3, Failures: 2, Stale: 1, Kept: 4, Evicted: 5, Refreshed: 6,
			MaxEntries: 400, Answers: map[string]uint64{"secure": 8, "bogus": 1},
		},
		MTASTS:      &stsstore.Stats{Policies: 2, Results: map[string]uint64{"ok": 1, "sts-webpki-invalid": 1, "a new kind": 1}},
		Probes:      &probe.Stats{Hosts: map[string]uint64{"open": 2}, Results: map[string]uint64{"open": 5, "refused": 1}, EgressFiltered: true},
		Connections: status.Connections{Open: 3, Max: 4096, Total: 9, Dropped: map[string]uint64{"evicted": 1}, Errors: map[string]uint64{"malformed": 2}},
	}
}

func registered(t *testing.T) (*metrics.Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return metrics.New(reg, busy), reg
}

// scrape returns the metrics of policyd as text, without comments.
func scrape(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	h := metrics.Handler(g, func() error { return nil }, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "policyd_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func kind() lookup.Kind {
	return lookup.Kind{
		Map: "tls-policy", Status: "OK", Cached: true,
		Source: "prefix", Class: "secure", Reason: "prefix-all", Unsigned: true,
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m, reg := registered(t)
	for range 2 {
		m.Lookup(kind())(3 * time.Microsecond)
	}
	m.Lookup(lookup.Kind{Map: "transport", Status: "NOTFOUND"})(150 * time.Millisecond)
	m.Query(dns.TypeMX, "NOERROR", 2*time.Millisecond)
	m.Query(dns.TypeMX, "BADCOOKIE", 0)
	m.Query(65, "timeout", 0)
	text := scrape(t, reg)
	for _, line := range []string{
		`policyd_lookups_total{map="tls-policy",result="OK"} 2`,
		`policyd_lookups_total{map="tls-policy",result="TEMP"} 0`,
		`policyd_lookups_total{map="transport",result="NOTFOUND"} 1`,
		`policyd_lookup_duration_seconds_bucket{cached="yes",map="tls-policy",le="5e-06"} 2`,
		`policyd_lookup_duration_seconds_bucket{cached="no",map="transport",le="0.1"} 0`,
		`policyd_lookup_duration_seconds_bucket{cached="no",map="transport",le="0.2"} 1`,
		`policyd_decisions_total{class="secure",reason="prefix-all",source="prefix"} 2`,
		`policyd_unsigned_total 2`,
		`policyd_dns_queries_total{rcode="NOERROR",type="MX"} 1`,
		`policyd_dns_queries_total{rcode="other",type="MX"} 1`,
		`policyd_dns_queries_total{rcode="timeout",type="other"} 1`,
		`policyd_dns_query_duration_seconds_bucket{type="MX",le="0.005"} 2`,
		`policyd_cache_requests_total{result="hit"} 7`,
		`policyd_cache_requests_total{result="miss"} 3`,
		`policyd_cache_requests_total{result="failure"} 2`,
		`policyd_cache_requests_total{result="stale"} 1`,
		`policyd_cache_entries 10`,
		`policyd_cache_max_entries 400`,
		`policyd_cache_bytes 4096`,
		`policyd_cache_max_bytes 8192`,
		`policyd_cache_evictions_total 5`,
		`policyd_cache_refreshes_total 6`,
		`policyd_cache_kept_total 4`,
		`policyd_dns_answers_total{status="secure"} 8`,
		`policyd_dns_answers_total{status="insecure"} 0`,
		`policyd_dns_answers_total{status="bogus"} 1`,
		`policyd_resolver_validating 1`,
		`policyd_probes_total{result="open"} 5`,
		`policyd_probes_total{result="certificate-name"} 0`,
		`policyd_probe_hosts{state="open"} 2`,
		`policyd_probe_egress_filtered 1`,
		`policyd_sts_fetches_total{result="ok"} 1`,
		`policyd_sts_fetches_total{result="sts-webpki-invalid"} 1`,
		`policyd_sts_fetches_total{result="sts-policy-invalid"} 0`,
		`policyd_sts_fetches_total{result="other"} 1`,
		`policyd_sts_policies 2`,
		`policyd_connections_open 3`,
		`policyd_connections_max 4096`,
		`policyd_connections_total 9`,
		`policyd_connections_dropped_total{reason="evicted"} 1`,
		`policyd_protocol_errors_total{kind="malformed"} 2`,
		`policyd_panics_total 1`,
		`policyd_config_reload_success 1`,
		`policyd_config_reload_timestamp_seconds 1.7e+09`,
		`policyd_build_info{goversion="` + runtime.Version() + `",version="v1.2.3"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
}

func TestTheNamesAreAsPrometheusWantsThem(t *testing.T) {
	t.Parallel()
	m, reg := registered(t)
	m.Lookup(kind())(3 * time.Microsecond)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestADaemonWithoutProbesAndMTASTS(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	metrics.New(reg, func() status.Status {
		return status.Status{Reload: &status.Reload{At: time.Unix(1_800_000_000, 0)}}
	})
	text := scrape(t, reg)
	require.Contains(t, text, "policyd_probe_hosts{state=\"open\"} 0\n")
	require.Contains(t, text, "policyd_sts_policies 0\n")
	require.Contains(t, text, "policyd_config_reload_success 0\n", "the last reload was refused")
	require.Contains(t, text, "policyd_config_reload_timestamp_seconds 1.8e+09\n")
}

func TestObservingALookupDoesNotAllocate(t *testing.T) {
	m, _ := registered(t)
	count := m.Lookup(kind())
	require.Zero(t, testing.AllocsPerRun(1000, func() { count(time.Microsecond) }))
}

// A value of a label that this package does not know, such as a new cause of a probe, is counted all the same.
func TestUnknownValuesAreCountedTogether(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	metrics.New(reg, func() status.Status {
		st := busy()
		st.Probes.Results = map[string]uint64{"open": 1, "new": 2, "newer": 3}
		return st
	})
	require.Contains(t, scrape(t, reg), `policyd_probes_total{result="other"} 5`)
}

// The schema of policyd check has every cause.
func TestEveryCauseOfAClosedHostIsCountedByItself(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("../../../../docs/schema/check.json")
	require.NoError(t, err)
	causes := regexp.MustCompile(`"cause": \{"enum": \["(.+)"\]\}`).FindSubmatch(schema)
	require.NotNil(t, causes)
	_, reg := registered(t)
	text := scrape(t, reg)
	for cause := range strings.SplitSeq(string(causes[1]), `", "`) {
		series := `policyd_probes_total{result="` + strings.ReplaceAll(cause, " ", "-") + `"} `
		if !strings.Contains(text, series) {
			t.Errorf("there is no %s", series)
		}
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	_, reg := registered(t)
	ready := fmt.Errorf("the self-test has no result")
	h := metrics.Handler(reg, func() error { return ready }, slog.New(slog.DiscardHandler))
	ask := func(method, path string) (code int, body string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		text, err := io.ReadAll(w.Body)
		require.NoError(t, err)
		return w.Code, string(text)
	}
	code, body := ask(http.MethodGet, "/-/healthy")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "healthy\n", body)
	code, body = ask(http.MethodGet, "/-/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "not ready: the self-test has no result\n", body)
	ready = nil
	code, _ = ask(http.MethodHead, "/-/ready")
	require.Equal(t, http.StatusOK, code)
	code, _ = ask(http.MethodHead, "/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		for _, path := range []string{"/metrics", "/-/ready", "/-/healthy"} {
			code, _ := ask(method, path)
			require.Equal(t, http.StatusMethodNotAllowed, code, method+path)
		}
		for _, path := range []string{"/v1/reload", "/v1/cache/flush", "/v1/log-level", "/-/reload", "/-/quit"} {
			code, _ := ask(method, path)
			require.Equal(t, http.StatusNotFound, code, "nothing here changes anything: "+path)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	m := metrics.New(prometheus.NewRegistry(), busy)
	count := m.Lookup(kind())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			count(time.Microsecond)
		}
	})
}
