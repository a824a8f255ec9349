package metrics

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/text"
)

// collectPromises sends the metrics of the remembered promises, and of the fleet that shares them.
func collectPromises(ch chan<- prometheus.Metric, st status.Status) {
	promises, shared := cmp.Or(st.Promises, &status.PromiseStatus{}), cmp.Or(st.Fleet, &fleet.Stats{})
	number(ch, "promises_remembered", "Domains whose promises are remembered.", promises.Remembered)
	number(ch, "promises_missing", "Domains whose established promise is missing from an unsigned answer now.",
		promises.Missing)
	number(ch, "promises_held", "Domains whose mail waits because their promise is missing.", promises.Held)
	number(ch, "promises_vanished_total", "Promises that vanished from an unsigned answer.", promises.Vanished)
	number(ch, "fleet_up", "1 if the latest exchange with the fleet store succeeded, or nothing is shared.",
		text.Either(st.Fleet == nil || shared.Up, 1, 0))
	records := map[string]uint64{"sent": shared.Sent, "merged": shared.Merged}
	for reason, n := range shared.Ignored {
		records[string(reason)] = n
	}
	by(ch, "fleet_records_total", "Records of the fleet store by what became of them.", "result", records,
		"sent", "merged", "malformed", "version", "mac", "misplaced", "future", "expired", "refused", "stale")
}
