package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/unixsock"
)

// telemetry is what Prometheus is shown; nil where there is no listener for it.
type telemetry struct {
	registry *prometheus.Registry
	*metrics.Metrics
}

// newTelemetry registers the metrics, if somebody is to see them.
func (d *Daemon) newTelemetry() *telemetry {
	if d.loaded.Load().Metrics.Listen == "" {
		return nil
	}
	registry := prometheus.NewRegistry()
	return &telemetry{registry: registry, Metrics: metrics.New(registry, d.options.Version, d.Status)}
}

// observeLookup is for lookup.Sources, and observeQuery for stub.Options: nil where nobody looks.
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

// operator opens the listeners for the operator, of the admin socket and of the metrics, and returns what serves them as
// parts. ctx is that of Run. What breaks later is logged and does not end the daemon: Postfix does not need it.
func (d *Daemon) operator(ctx context.Context) (parts []func(context.Context) error, err error) {
	exposed, err := d.openMetrics(ctx)
	if err != nil {
		return nil, err
	}
	private, err := d.openAdmin(ctx)
	if err != nil {
		if exposed != nil {
			_ = exposed.Close()
		}
		return nil, err
	}
	if exposed != nil {
		s := &metrics.Server{Gatherer: d.telemetry.registry, Log: d.log, Ready: func() error { return d.readiness(ctx) }}
		parts = append(parts, func(ctx context.Context) error { return d.survive(ctx, s.Run(ctx, exposed)) })
	}
	if private != nil {
		s := admin.NewServer(d.Admin(), d.log)
		parts = append(parts, func(ctx context.Context) error { return d.survive(ctx, s.Run(ctx, private)) })
	}
	return parts, nil
}

func (d *Daemon) survive(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		d.log.Error("a listener for the operator is broken: restart policyd to have it back", "err", err)
	}
	return ctx.Err()
}

func (d *Daemon) openMetrics(ctx context.Context) (net.Listener, error) {
	address := d.loaded.Load().Metrics.Listen
	if address == "" {
		return nil, nil
	}
	l, err := unixsock.Listen(ctx, address, unixsock.Options{})
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for metrics: %w%s", address, err, whoToAsk(address, err))
	}
	d.log.Info("metrics", "listener", addressOf(l))
	return l, nil
}

// readiness returns what lookups wait for. It is asked when all listeners are open; running ends when the daemon is told to
// stop.
func (d *Daemon) readiness(running context.Context) error {
	if running.Err() != nil {
		return errors.New("policyd is stopping")
	}
	if st := d.stub.State(); st.Result == stub.Unknown && !d.off() {
		return fmt.Errorf("the self-test of the resolver has no result: %s", st.Reason)
	}
	return nil
}
