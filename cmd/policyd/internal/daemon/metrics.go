package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/stub"
)

// telemetry is what Prometheus is shown; nil where there is no listener for it.
type telemetry struct {
	registry *prometheus.Registry
	*metrics.Metrics
}

// newTelemetry registers the metrics, if they are served.
func (d *Daemon) newTelemetry() *telemetry {
	if d.loaded.Load().Metrics.Listen == "" {
		return nil
	}
	registry := prometheus.NewRegistry()
	return &telemetry{registry: registry, Metrics: metrics.New(registry, d.options.Version, d.Status)}
}

// observeLookup is for lookup.Sources, and observeQuery for stub.Options: nil if metrics are not served.
func (d *Daemon) observeLookup() func(lookup.Kind) func(time.Duration) {
	if d.telemetry == nil {
		return nil
	}
	return d.telemetry.Lookup
}

func (d *Daemon) observeQuery() func(stub.QueryEvent) {
	if d.telemetry == nil {
		return nil
	}
	return func(e stub.QueryEvent) {
		d.telemetry.Query(metrics.Query{Type: e.Type, Rcode: e.Rcode, Took: e.Took})
	}
}

// observeFetch is for stsstore.Options.
func (d *Daemon) observeFetch() func(result string) {
	if d.telemetry == nil {
		return nil
	}
	return d.telemetry.Fetch
}

// readiness returns what lookups wait for. It is asked when all listeners are open; running ends when the daemon starts
// to stop.
func (d *Daemon) readiness(running context.Context) error {
	if running.Err() != nil {
		return errors.New("policyd is stopping")
	}
	if st := d.stub.State(); st.Result == stub.Unknown && !d.off() {
		return fmt.Errorf("the self-test of the resolver has no result: %s", st.Reason)
	}
	return nil
}
