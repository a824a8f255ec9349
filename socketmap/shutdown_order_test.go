package socketmap_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// slowListener closes when the test allows it.
type slowListener struct {
	net.Listener
	closing, may chan struct{}
}

func (l *slowListener) Close() error {
	select {
	case <-l.closing: // a second call
	default:
		close(l.closing)
		<-l.may
	}
	return l.Listener.Close()
}

// A client whose connection is closed connects again immediately, and only once. So Shutdown closes connections only when no
// listener of this process accepts any more: under socket activation the client then reaches the next process.
func TestShutdownClosesListenersBeforeConnections(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	require.NoError(t, err)
	l := &slowListener{inner, make(chan struct{}), make(chan struct{})}
	s := &socketmap.Server{Handler: maps()}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, err := socketmap.Dial(t.Context(), "unix:"+inner.Addr().String())
	require.NoError(t, err)
	ask := func() error {
		_, err := c.Lookup(t.Context(), socketmap.Request{Map: "echo", Key: "x"})
		return err
	}
	require.NoError(t, ask())
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	<-l.closing
	for range 3 {
		require.NoError(t, ask(), "while the listener still accepts")
	}
	close(l.may)
	require.NoError(t, <-down)
	require.ErrorIs(t, <-served, socketmap.ErrServerClosed)
	require.Error(t, ask())
}
