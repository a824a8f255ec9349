package daemon

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/internal/unixsock"
)

// operatorListener is a listener beside those for Postfix: the admin socket, or the ones for metrics and for other mail
// servers. Postfix does not need it, so a failure to open it does not keep the daemon from answering. It is opened again
// until that succeeds.
type operatorListener struct {
	name    string // the setting
	address string
	options unixsock.Options
	handle  func(context.Context, net.Listener) error
	log     *slog.Logger
	// interval is that between two looks at the path of a unix socket.
	interval time.Duration
	first    net.Listener // opened before the daemon is ready; nil if that failed

	mu  sync.Mutex
	err error // why it is not open; nil while it is
}

const (
	adminSocket   = "admin.socket"
	metricsListen = "metrics.listen"

	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// openOperator opens the listeners for the operator. ctx is that of Run.
func (d *Daemon) openOperator(ctx context.Context) {
	l := d.loaded.Load()
	s := admin.NewServer(d.Admin(), d.log)
	if path := l.Admin.Socket; path != "" {
		d.operator = append(d.operator, &operatorListener{
			name: adminSocket, address: "unix:" + path, options: unixsock.Options{Mode: 0o660}, handle: s.Run, log: d.log,
		})
	}
	if address := l.Metrics.Listen; address != "" {
		s := &metrics.Server{Gatherer: d.telemetry.registry, Log: d.log, Ready: func() error { return d.readiness(ctx) }}
		d.operator = append(d.operator, &operatorListener{
			name: metricsListen, address: address, handle: s.Run, log: d.log,
		})
	}
	if address := l.HTTP.Listen; address != "" {
		d.operator = append(d.operator, &operatorListener{
			name: "http.listen", address: address, handle: s.RunQuestions, log: d.log,
		})
	}
	for _, o := range d.operator {
		o.interval = d.interval
		o.first = o.open(ctx)
	}
}

// open returns nil if the listener cannot be opened. That is logged when the reason is new.
func (o *operatorListener) open(ctx context.Context) net.Listener {
	l, err := unixsock.Listen(ctx, o.address, o.options)
	if err == nil {
		switch o.name {
		case adminSocket:
			o.log.Info("admin socket", "listener", addressOf(l))
		case metricsListen:
			o.log.Info("metrics", "listener", addressOf(l))
		default:
			o.log.Info("http", "listener", addressOf(l))
		}
	}
	o.note(err)
	return l
}

// note keeps why the listener is not open, and logs a reason that is new.
func (o *operatorListener) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil && (o.err == nil || o.err.Error() != err.Error()) {
		o.log.Warn("cannot listen for the operator; trying again", "setting", o.name, "listener", o.address,
			"err", err, "hint", strings.TrimSpace(remedy(o.address, err)))
	}
	o.err = err
}

// trouble returns why the listener is not open, nil while it is.
func (o *operatorListener) trouble() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// run serves until ctx ends.
func (o *operatorListener) run(ctx context.Context) error {
	l := o.first
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		if l != nil {
			if err := o.serve(ctx, l); ctx.Err() == nil {
				o.note(err)
			}
			wait = firstRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		l = o.open(ctx)
	}
}

// serve serves l until ctx ends, l breaks, or clients can no longer reach it.
func (o *operatorListener) serve(ctx context.Context, l net.Listener) error {
	group, serving := errgroup.WithContext(ctx)
	group.Go(func() error { return o.handle(serving, l) })
	if u, ok := l.(*unixsock.Listener); ok {
		group.Go(func() error { return whileReachable(serving, u, o.interval) })
	}
	return group.Wait()
}
