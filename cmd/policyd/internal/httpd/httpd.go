// Package httpd serves HTTP to commands, to a monitoring system and to mail servers: everything that one of them can
// make the daemon hold is bounded.
package httpd

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// The bounds, beside the number of connections. Connections above that wait in the backlog of the listener.
const (
	maxHeader     = 8 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 10 * time.Second
	drainTimeout  = 500 * time.Millisecond
)

// ForOperator is the connection limit of a listener for the operator.
const ForOperator = 32

// Run serves l with at most the given number of connections until ctx ends, lets requests end that are under way, for
// half a second, and closes l. The error is that of ctx, or of a listener that is broken.
func Run(ctx context.Context, l net.Listener, h http.Handler, connections int, log *slog.Logger) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler: h, MaxHeaderBytes: maxHeader, IdleTimeout: idleTimeout,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return requests },
	}
	limited := netutil.LimitListener(l, connections)
	defer context.AfterFunc(ctx, func() { _ = limited.Close() })()
	err := server.Serve(limited)
	drain, cancelDrain := context.WithTimeout(requests, drainTimeout)
	defer cancelDrain()
	if server.Shutdown(drain) != nil {
		_ = server.Close()
	}
	return cmp.Or(ctx.Err(), err)
}
