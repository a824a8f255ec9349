package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// The bounds on what clients can make the server hold.
const (
	maxConnections = 32
	maxExplaining  = 8
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 60 * time.Second
	idleTimeout    = 10 * time.Second
	drainTimeout   = 2 * time.Second
)

// Server serves the API. Make one with NewServer.
type Server struct {
	daemon    Daemon
	log       *slog.Logger
	explained chan struct{} // a token for each explanation under way
}

// NewServer returns a server for d.
func NewServer(d Daemon, log *slog.Logger) *Server {
	return &Server{daemon: d, log: log, explained: make(chan struct{}, maxExplaining)}
}

// Run serves l until ctx ends, lets requests end that are under way, for two seconds, and closes l. The error is
// that of ctx, or of l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return requests },
	}
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		patience, cancelPatience := context.WithTimeout(requests, drainTimeout)
		defer cancelPatience()
		if server.Shutdown(patience) != nil {
			cancel()
			_ = server.Close()
		}
	})
	err := server.Serve(netutil.LimitListener(l, maxConnections))
	if stop() { // ctx has not ended: the listener is broken
		_ = server.Close()
		return fmt.Errorf("admin: %w", err)
	}
	<-drained
	if errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("admin: %w", err)
}
