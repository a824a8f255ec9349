package metrics

import (
	"cmp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/text"
)

// Describe implements prometheus.Collector. It sends nothing: at registration the daemon has no status yet.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector, for the metrics that are read from a status.Status when Prometheus asks.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	st := m.state()
	build := prometheus.Labels{"version": st.Version, "goversion": st.Go}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(namespace+"_build_info",
		"Version of policyd and of Go; always 1.", nil, build), prometheus.GaugeValue, 1)
	lookups := prometheus.NewDesc(namespace+"_lookups_total", "Socketmap lookups by map and result.",
		[]string{"map", "result"}, nil)
	for lookupMap, replies := range st.Lookups.Replies {
		for result, n := range replies {
			ch <- prometheus.MustNewConstMetric(lookups, prometheus.CounterValue, float64(n), lookupMap, result)
		}
	}
	number(ch, "unsigned_total", "Policies that rest on an unsigned MX RRset.", st.Lookups.Unsigned)
	by(ch, "cache_requests_total", "Questions to the DNS cache by result.", "result", map[string]uint64{
		"hit": st.Cache.Hits, "miss": st.Cache.Misses, "failure": st.Cache.Failures, "stale": st.Cache.Stale,
	}, "hit", "miss", "failure", "stale")
	number(ch, "cache_entries", "RRsets and failures in the DNS cache.", st.Cache.Entries)
	number(ch, "cache_max_entries", "Bound on the entries of the DNS cache.", st.Cache.MaxEntries)
	number(ch, "cache_bytes", "Estimated memory of the DNS cache.", st.Cache.Bytes)
	number(ch, "cache_max_bytes", "Bound on the estimated memory of the DNS cache.", st.Cache.MaxBytes)
	number(ch, "cache_evictions_total", "Entries evicted because the DNS cache was full.", st.Cache.Evicted)
	number(ch, "cache_refreshes_total", "Entries that were looked up again ahead of their expiry.", st.Cache.Refreshed)
	number(ch, "cache_kept_total", "Insecure answers that did not displace a live secure one.", st.Cache.Kept)
	by(ch, "dns_answers_total", "Answers of the DNS servers by security status.", "status", st.Cache.Answers,
		"secure", "insecure", "bogus", "failed")
	number(ch, "resolver_validating", "1 if the resolver is trusted and has passed the self-test.",
		text.Either(st.Resolver.Validating, 1, 0))

	// A part that is switched off has no status, and its metrics are zero.
	probes, sts := cmp.Or(st.Probes, &probe.Stats{}), cmp.Or(st.MTASTS, &stsstore.Stats{})
	by(ch, "probes_total", "Probes of the port of implicit TLS by result.", "result", probes.Results,
		"open", "refused", "timeout", "plaintext", "tls-handshake", "certificate-name", "certificate-chain",
		"certificate-expired", "certificate-rules", "refused-by-postfix", "tlsa-mismatch", "not-judged", "banner",
		"no-address", "address-not-allowed", "unknown")
	by(ch, "probe_hosts", "Hosts that promise implicit TLS by what probes have found.", "state", probes.Hosts,
		"open", "closed", "unknown")
	number(ch, "probe_egress_filtered", "1 if the port of implicit TLS appears to be blocked on our side.",
		text.Either(probes.EgressFiltered, 1, 0))
	by(ch, "sts_fetches_total", "Fetches of MTA-STS policies by result: ok, or a result type of RFC 8460.", "result",
		sts.Results, "ok", string(mtasts.FetchError), string(mtasts.PolicyInvalid), string(mtasts.WebPKIInvalid))
	number(ch, "sts_policies", "MTA-STS policies in the store.", sts.Policies)
	number(ch, "sts_fetches_blocked", "1 if no MTA-STS policy can be fetched from this host.",
		text.Either(!sts.Blocked.IsZero(), 1, 0))
	collectPromises(ch, st)

	number(ch, "connections_open", "Socketmap connections that are open.", st.Connections.Open)
	number(ch, "connections_max", "Bound on the socketmap connections.", st.Connections.Max)
	number(ch, "connections_total", "Socketmap connections that were accepted.", st.Connections.Total)
	by(ch, "connections_dropped_total", "Socketmap connections that the server closed, by reason.", "reason",
		st.Connections.Dropped, "evicted", "refused", "idle", "stalled")
	by(ch, "protocol_errors_total",
		"Errors of the socketmap protocol by kind: connections that ended in one, and lookups in unknown maps.", "kind",
		st.Connections.Errors, "malformed", "stalled", "write", "accept", "unknown-map")
	number(ch, "panics_total", "Lookups that ended in an internal error.", st.Lookups.Panics)
	read := cmp.Or(st.Reload, &status.Reload{At: st.Started, OK: true})
	number(ch, "config_reload_success", "1 unless the last reload of the settings failed.", text.Either(read.OK, 1, 0))
	number(ch, "config_reload_timestamp_seconds", "When the settings were last read, at the start or by a reload.",
		read.At.Unix())
}

// number sends a metric without labels.
func number[N int | int64 | uint64](ch chan<- prometheus.Metric, name, help string, n N) {
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(namespace+"_"+name, help, nil, nil), kind(name), float64(n))
}

// by sends a metric for each value of a label: one per known value, 0 if it has no count, and one for all others
// together.
func by(ch chan<- prometheus.Metric, name, help, label string, values map[string]uint64, names ...string) {
	desc := prometheus.NewDesc(namespace+"_"+name, help, []string{label}, nil)
	counts := map[string]uint64{}
	for value, n := range values {
		counts[known(value, names...)] += n
	}
	if counts[other] > 0 {
		names = append(names, other)
	}
	for _, value := range names {
		ch <- prometheus.MustNewConstMetric(desc, kind(name), float64(counts[value]), value)
	}
}

// kind returns the type of a metric. By convention the names of counters, and only those, end in _total.
func kind(name string) prometheus.ValueType {
	if strings.HasSuffix(name, "_total") {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}
