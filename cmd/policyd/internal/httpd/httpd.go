// Package httpd serves HTTP to commands, a monitoring system and mail servers, and bounds everything that any of them
// can make the daemon hold.
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

// ForOperator is the connection limit of a listener for the operator.
const ForOperator = 32

// Run serves l with at most the given number of connections until ctx ends; more wait in the backlog of the listener.
// Then it gives unfinished requests half a second to end, and closes l. The error is that of ctx, or of a listener that
// is broken.
func Run(ctx context.Context, l net.Listener, h http.Handler, connections int, log *slog.Logger) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler: h, MaxHeaderBytes: 8 << 10, ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 10 * time.Second,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return requests },
	}
	limited := netutil.LimitListener(l, connections)
	defer context.AfterFunc(ctx, func() { _ = limited.Close() })()
	err := server.Serve(limited)
	drain, cancelDrain := context.WithTimeout(requests, 500*time.Millisecond)
	defer cancelDrain()
	if server.Shutdown(drain) != nil {
		_ = server.Close()
	}
	return cmp.Or(ctx.Err(), err)
}
