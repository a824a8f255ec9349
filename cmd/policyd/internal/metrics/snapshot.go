package metrics

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// snapshot collects the metrics that are read from an admin.Status when Prometheus asks.
type snapshot struct {
	status func() admin.Status
}

// Describe implements prometheus.Collector. It sends nothing, because the daemon has no status yet when this is
// registered.
func (s *snapshot) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *snapshot) Collect(ch chan<- prometheus.Metric) {
	st := s.status()
	countersBy(ch, "cache_requests_total", "Questions to the DNS cache by result.", "result", map[string]uint64{
		"hit": st.Cache.Hits, "miss": st.Cache.Misses, "failure": st.Cache.Failures, "stale": st.Cache.Stale,
	})
	gauge(ch, "cache_entries", "RRsets and failures in the DNS cache.", st.Cache.Entries)
	gauge(ch, "cache_max_entries", "Bound on the entries of the DNS cache.", st.Cache.MaxEntries)
	gauge(ch, "cache_bytes", "Estimated memory of the DNS cache.", st.Cache.Bytes)
	gauge(ch, "cache_max_bytes", "Bound on the estimated memory of the DNS cache.", st.Cache.MaxBytes)
	counter(ch, "cache_evictions_total", "Entries evicted because the DNS cache was full.", st.Cache.Evicted)
	counter(ch, "cache_refreshes_total", "Entries that were looked up again ahead of their expiry.", st.Cache.Refreshed)
	counter(ch, "cache_kept_total", "Insecure answers that did not displace a live secure one.", st.Cache.Kept)
	countersBy(ch, "dns_answers_total", "Answers of the DNS servers by security status.", "status", st.Cache.Answers,
		"secure", "insecure", "bogus", "failed")
	gauge(ch, "resolver_validating", "1 if the resolver is trusted and has passed the self-test.",
		one(st.Resolver.Validating))

	// A part that is switched off has no status, and its metrics are zero.
	probes, promises, sts, fleet := orZero(st.Probes), orZero(st.Promises), orZero(st.MTASTS), orZero(st.Fleet)
	countersBy(ch, "probes_total", "Probes of the port of implicit TLS by result.", "result", probes.Results,
		"open", "refused", "timeout", "plaintext", "tls-handshake", "certificate-name", "certificate-chain",
		"certificate-expired", "banner", "no-address", "address-not-allowed", "unknown")
	by(ch, prometheus.GaugeValue, "probe_hosts", "Hosts that promise implicit TLS by what probes have found.", "state",
		probes.Hosts,
		"open", "closed", "unknown")
	gauge(ch, "probe_egress_filtered", "1 if the port of implicit TLS appears to be blocked on our side.",
		one(probes.EgressFiltered))
	gauge(ch, "promises_remembered", "Domains whose promises are remembered.", promises.Remembered)
	gauge(ch, "promises_missing", "Domains whose established promise is missing from an unsigned answer now.",
		promises.Missing)
	gauge(ch, "promises_held", "Domains whose mail waits because their promise is missing.", promises.Held)
	counter(ch, "promises_vanished_total", "Promises that vanished from an unsigned answer.", promises.Vanished)
	gauge(ch, "sts_policies", "MTA-STS policies in the store.", sts.Policies)
	gauge(ch, "sts_fetches_blocked", "1 if no MTA-STS policy can be fetched from this host.",
		one(!sts.BlockedSince.IsZero()))
	gauge(ch, "fleet_up", "1 if the latest exchange with the fleet store succeeded, or nothing is shared.",
		one(st.Fleet == nil || fleet.Up))
	records := map[string]uint64{"sent": fleet.Sent, "merged": fleet.Merged}
	for reason, n := range fleet.Ignored {
		records[string(reason)] = n
	}
	countersBy(ch, "fleet_records_total", "Records of the fleet store by what became of them.", "result", records,
		"sent", "merged", "malformed", "version", "mac", "misplaced", "future", "expired", "refused", "stale")

	gauge(ch, "connections_open", "Socketmap connections that are open.", st.Connections.Open)
	gauge(ch, "connections_max", "Bound on the socketmap connections.", st.Connections.Max)
	counter(ch, "connections_total", "Socketmap connections that were accepted.", st.Connections.Total)
	countersBy(ch, "connections_dropped_total", "Socketmap connections that the server closed, by reason.", "reason",
		st.Connections.Dropped,
		"evicted", "refused", "idle", "stalled")
	countersBy(ch, "protocol_errors_total",
		"Errors of the socketmap protocol by kind: connections that ended in one, and lookups in unknown maps.", "kind",
		st.Connections.Errors,
		"malformed", "stalled", "write", "accept", "unknown-map")
	counter(ch, "panics_total", "Lookups that ended in an internal error.", st.Lookups.Panics)
	read := st.Started
	if st.Reload != nil {
		read = st.Reload.At
	}
	gauge(ch, "config_reload_success", "1 unless the last reload of the settings failed.",
		one(st.Reload == nil || st.Reload.OK))
	gauge(ch, "config_reload_timestamp_seconds", "When the settings were last read, at the start or by a reload.",
		read.Unix())
}

func gauge[N int | int64](ch chan<- prometheus.Metric, name, help string, value N) {
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(namespace+"_"+name, help, nil, nil), prometheus.GaugeValue,
		float64(value))
}

func counter(ch chan<- prometheus.Metric, name, help string, n uint64) {
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(namespace+"_"+name, help, nil, nil), prometheus.CounterValue,
		float64(n))
}

func countersBy(ch chan<- prometheus.Metric, name, help, label string, values map[string]uint64, known ...string) {
	by(ch, prometheus.CounterValue, name, help, label, values, known...)
}

// by sends a metric for each value of a label: the known ones, of which those without a count are zero, and any others
// together.
func by(ch chan<- prometheus.Metric, kind prometheus.ValueType, name, help, label string, values map[string]uint64,
	known ...string) {
	desc := prometheus.NewDesc(namespace+"_"+name, help, []string{label}, nil)
	if len(known) == 0 {
		known = slices.Collect(maps.Keys(values))
	}
	rest := uint64(0)
	for v, n := range values {
		if !slices.Contains(known, v) {
			rest += n
		}
	}
	for _, v := range known {
		ch <- prometheus.MustNewConstMetric(desc, kind, float64(values[v]), v)
	}
	if rest > 0 {
		ch <- prometheus.MustNewConstMetric(desc, kind, float64(rest), other)
	}
}

// orZero returns what p points to, or the zero value.
func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
