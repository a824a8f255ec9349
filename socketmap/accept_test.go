package socketmap_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// scarce is a listener of a process at its limit of open files: every other accept fails.
type scarce struct {
	accepts atomic.Int64
	closed  chan struct{}
}

func (s *scarce) Accept() (net.Conn, error) {
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	default:
	}
	if s.accepts.Add(1)%2 == 1 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	c, other := net.Pipe()
	_ = other.Close()
	return c, nil
}

func (s *scarce) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func (s *scarce) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2526} }

// At the limit of open files accepts succeed and fail in turn: one line in the log a minute, and not one for each.
func TestALackOfFilesIsSaidOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		server := &socketmap.Server{Handler: &socketmap.Mux{}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		l := &scarce{closed: make(chan struct{})}
		ended := make(chan error)
		go func() { ended <- server.Serve(l) }()
		time.Sleep(150 * time.Second)
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-ended, socketmap.ErrServerClosed)
		require.Greater(t, l.accepts.Load(), int64(1000))
		require.Equal(t, 3, strings.Count(log.String(), "cannot accept connections"))
	})
}
