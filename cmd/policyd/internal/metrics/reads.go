package metrics

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// reads are the metrics that are read when Prometheus asks.
func reads() []read {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []read{
		{
			name: "cache_requests_total", help: "Questions to the DNS cache by result.", kind: counter,
			label: "result", known: []string{"hit", "miss", "failure", "stale"},
			values: func(st *admin.Status) map[string]uint64 {
				return map[string]uint64{"hit": st.Cache.Hits, "miss": st.Cache.Misses, "failure": st.Cache.Failures, "stale": st.Cache.Stale}
			},
		},
		{
			name: "cache_entries", help: "RRsets and failures in the DNS cache.", kind: gauge,
			value: func(st *admin.Status) float64 { return float64(st.Cache.Entries) },
		},
		{
			name: "cache_max_entries", help: "Bound on the entries of the DNS cache.", kind: gauge,
			value: func(st *admin.Status) float64 { return float64(st.Cache.MaxEntries) },
		},
		{
			name: "cache_bytes", help: "Estimated memory of the DNS cache.", kind: gauge,
			value: func(st *admin.Status) float64 { return float64(st.Cache.Bytes) },
		},
		{
			name: "cache_max_bytes", help: "Bound on the estimated memory of the DNS cache.", kind: gauge,
			value: func(st *admin.Status) float64 { return float64(st.Cache.MaxBytes) },
		},
		{
			name: "cache_evictions_total", help: "Entries evicted because the DNS cache was full.", kind: counter,
			value: func(st *admin.Status) float64 { return float64(st.Cache.Evicted) },
		},
		{
			name: "cache_refreshes_total", help: "Entries that were looked up again ahead of their expiry.", kind: counter,
			value: func(st *admin.Status) float64 { return float64(st.Cache.Refreshed) },
		},
		{
			name: "cache_kept_total", help: "Insecure answers that did not displace a live secure one.", kind: counter,
			value: func(st *admin.Status) float64 { return float64(st.Cache.Kept) },
		},
		{
			name: "dns_answers_total", help: "Answers of the DNS servers by security status.", kind: counter,
			label: "status", known: []string{"secure", "insecure", "bogus", "failed"},
			values: func(st *admin.Status) map[string]uint64 { return st.Cache.Answers },
		},
		{
			name: "resolver_validating", help: "1 if the resolver is trusted and has passed the self-test.", kind: gauge,
			value: func(st *admin.Status) float64 { return one(st.Resolver.Validating) },
		},
		{
			name: "probes_total", help: "Probes of the port of implicit TLS by result.", kind: counter,
			label: "result", known: []string{
				"open", "refused", "timeout", "plaintext", "tls-handshake", "certificate-name", "certificate-chain",
				"certificate-expired", "banner", "no-address", "address-not-allowed", "unknown",
			},
			values: func(st *admin.Status) map[string]uint64 {
				if st.Probes == nil {
					return nil
				}
				return st.Probes.Results
			},
		},
		{
			name: "promises_remembered", help: "Domains whose promises are remembered.", kind: gauge,
			value: func(st *admin.Status) float64 {
				return promises(st, func(p *admin.PromiseStatus) float64 { return float64(p.Remembered) })
			},
		},
		{
			name: "promises_missing", help: "Domains whose established promise is missing from an unsigned answer now.", kind: gauge,
			value: func(st *admin.Status) float64 {
				return promises(st, func(p *admin.PromiseStatus) float64 { return float64(p.Missing) })
			},
		},
		{
			name: "promises_held", help: "Domains whose mail waits because their promise is missing.", kind: gauge,
			value: func(st *admin.Status) float64 {
				return promises(st, func(p *admin.PromiseStatus) float64 { return float64(p.Held) })
			},
		},
		{
			name: "promises_vanished_total", help: "Promises that vanished from an unsigned answer.", kind: counter,
			value: func(st *admin.Status) float64 {
				return promises(st, func(p *admin.PromiseStatus) float64 { return float64(p.Vanished) })
			},
		},
		{
			name: "fleet_up", help: "1 if the latest exchange with the fleet store succeeded, or nothing is shared.", kind: gauge,
			value: func(st *admin.Status) float64 { return one(st.Fleet == nil || st.Fleet.Up) },
		},
		{
			name: "fleet_records_total", help: "Records of the fleet store by what became of them.", kind: counter,
			label: "result", known: []string{"sent", "merged", "malformed", "version", "mac", "misplaced", "future", "expired", "refused", "stale"},
			values: func(st *admin.Status) map[string]uint64 {
				if st.Fleet == nil {
					return nil
				}
				values := map[string]uint64{"sent": st.Fleet.Sent, "merged": st.Fleet.Merged}
				maps.Copy(values, st.Fleet.Ignored)
				return values
			},
		},
		{
			name: "probe_hosts", help: "Hosts that promise implicit TLS by what probes have found.", kind: gauge,
			label: "state", known: []string{"open", "closed", "unknown"},
			values: func(st *admin.Status) map[string]uint64 {
				if st.Probes == nil {
					return nil
				}
				return st.Probes.Hosts
			},
		},
		{
			name: "probe_egress_filtered", help: "1 if the port of implicit TLS appears to be blocked on our side.", kind: gauge,
			value: func(st *admin.Status) float64 { return one(st.Probes != nil && st.Probes.EgressFiltered) },
		},
		{
			name: "sts_policies", help: "MTA-STS policies in the store.", kind: gauge,
			value: func(st *admin.Status) float64 {
				if st.MTASTS == nil {
					return 0
				}
				return float64(st.MTASTS.Policies)
			},
		},
		{
			name: "sts_fetches_blocked", help: "1 if no MTA-STS policy can be fetched from this host.", kind: gauge,
			value: func(st *admin.Status) float64 { return one(st.MTASTS != nil && !st.MTASTS.BlockedSince.IsZero()) },
		},
		{
			name: "connections_open", help: "Socketmap connections that are open.", kind: gauge,
			value: func(st *admin.Status) float64 { return float64(st.Connections.Open) },
		},
		{
			name: "connections_max", help: "Bound on the socketmap connections.", kind: gauge,
			value: func(st *admin.Status) float64 { return float64(st.Connections.Max) },
		},
		{
			name: "connections_total", help: "Socketmap connections that were accepted.", kind: counter,
			value: func(st *admin.Status) float64 { return float64(st.Connections.Total) },
		},
		{
			name: "connections_dropped_total", help: "Socketmap connections that the server closed, by reason.", kind: counter,
			label: "reason", known: []string{"evicted", "refused", "idle", "stalled"},
			values: func(st *admin.Status) map[string]uint64 { return st.Connections.Dropped },
		},
		{
			name: "protocol_errors_total", help: "Errors of the socketmap protocol by kind: connections that ended in one, and lookups in unknown maps.", kind: counter,
			label: "kind", known: []string{"malformed", "stalled", "write", "accept", "unknown-map"},
			values: func(st *admin.Status) map[string]uint64 { return st.Connections.Errors },
		},
		{
			name: "panics_total", help: "Lookups that ended in an internal error.", kind: counter,
			value: func(st *admin.Status) float64 { return float64(st.Lookups.Panics) },
		},
		{
			name: "config_reload_success", help: "1 unless the last reload of the settings failed.", kind: gauge,
			value: func(st *admin.Status) float64 { return one(st.Reload == nil || st.Reload.OK) },
		},
		{
			name: "config_reload_timestamp_seconds", help: "When the settings were last read, at the start or by a reload.", kind: gauge,
			value: func(st *admin.Status) float64 {
				if st.Reload == nil {
					return float64(st.Started.Unix())
				}
				return float64(st.Reload.At.Unix())
			},
		},
	}
}

// promises returns a figure about the memory of promises, 0 if it is switched off.
func promises(st *admin.Status, figure func(*admin.PromiseStatus) float64) float64 {
	if st.Promises == nil {
		return 0
	}
	return figure(st.Promises)
}
