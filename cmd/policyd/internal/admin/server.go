package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
)

// maxExplaining bounds the evaluations at a time: each may ask DNS for ten seconds.
const maxExplaining = 8

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

// Run serves l until ctx ends, lets requests that are under way end for half a second, and closes l. The error is
// that of ctx, or of l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if err := httpd.Run(ctx, l, s.Handler(), httpd.ForOperator, s.log); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}
