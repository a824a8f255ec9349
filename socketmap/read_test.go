package socketmap_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// After some requests a connection is not read to its end each time. That the client has ended it is seen all the same.
func TestAHalfClosedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	tcp, unix := serve(t, &socketmap.Server{})
	for _, address := range []string{tcp, unix} {
		for requests := range 5 {
			c := dial(t, address)
			for range requests {
				says(t, c, "10:echo hello,", "8:OK hello,")
			}
			_, err := c.Write([]byte("10:echo hello,"))
			require.NoError(t, err)
			require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
			rest, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, "8:OK hello,", string(rest))
		}
	}
}

// A request is answered whenever it comes: before and after the connection was looked at again, and the silence of a
// connection is measured from its last reply.
func TestAConnectionIsServedUntilItIsSilentForLong(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	s.SetLimits(socketmap.Limits{IdleTimeout: 3 * time.Second})
	tcp, unix := serve(t, s)
	var clients sync.WaitGroup
	for _, address := range []string{tcp, unix} {
		for _, pause := range []time.Duration{0, 900 * time.Millisecond, time.Second, 1100 * time.Millisecond, 2 * time.Second} {
			c := dial(t, address)
			clients.Go(func() {
				for range 3 {
					says(t, c, "10:echo hello,", "8:OK hello,")
					time.Sleep(pause)
				}
				for _, piece := range []string{"10:echo hello,10:ec", "ho hello,", "10:echo hello,"} {
					_, err := c.Write([]byte(piece))
					require.NoError(t, err)
					time.Sleep(pause / 4)
				}
				says(t, c, "", "8:OK hello,8:OK hello,8:OK hello,")
			})
		}
		closed(t, dial(t, address))
	}
	clients.Wait()
}

// pipes is a listener whose connections are no sockets.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	p.conns <- theirs
	require.NoError(t, ours.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { _ = ours.Close() })
	return ours
}

func TestAListenerOfAnyKindIsServed(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Handler: maps()}
	s.SetLimits(socketmap.Limits{IdleTimeout: 100 * time.Millisecond})
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(p) }()
	c := p.dial(t)
	for range 3 {
		says(t, c, "10:echo hello,", "8:OK hello,")
	}
	says(t, c, "10:ec", "")
	says(t, c, "ho hello,", "8:OK hello,")
	closed(t, c) // silent
	c = p.dial(t)
	says(t, c, "10:ec", "")
	closed(t, c)
	c = p.dial(t)
	says(t, c, "rubbish", "")
	closed(t, c)
	c = p.dial(t)
	says(t, c, "10:ec", "")
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return s.Stats().Malformed == 2 && s.Stats().Open == 0 }, 10*time.Second, time.Millisecond)
	require.Equal(t, uint64(1), s.Stats().Idle)
	require.Equal(t, uint64(1), s.Stats().Stalled)
	require.NoError(t, s.Shutdown(t.Context()))
	require.ErrorIs(t, <-served, socketmap.ErrServerClosed)
}
