package socketmap

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// idleConn returns a connection that nobody serves, idle since then, and its client's side.
func idleConn(t *testing.T, s *Server, since time.Duration) (*conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	served, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	t.Cleanup(func() { _, _ = client.Close(), served.Close() })
	c := &conn{server: s, net: served}
	c.rest(since)
	s.conns[c] = struct{}{}
	return c, client
}

func TestEvictSparesRequestsThatHaveArrived(t *testing.T) {
	t.Parallel()
	s := &Server{}
	s.prepare()
	asked, client := idleConn(t, s, 1)
	over, gone := idleConn(t, s, 2)
	silent, _ := idleConn(t, s, 3)
	_, err := client.Write([]byte("7:map key,"))
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	require.Eventually(t, asked.pending, 10*time.Second, time.Millisecond)
	require.False(t, over.pending(), "its client has gone")
	require.False(t, silent.pending())
	for _, left := range [][]*conn{{asked, silent}, {asked}} {
		require.True(t, s.evict())
		require.Len(t, s.conns, len(left))
		for _, c := range left {
			require.Contains(t, s.conns, c)
		}
	}
	require.False(t, s.evict(), "the only one is about to be served")
}

// A client that sends and sends is not spared for ever.
func TestEvictSparesSomeOnly(t *testing.T) {
	t.Parallel()
	s := &Server{}
	s.prepare()
	for i := range 20 {
		c, client := idleConn(t, s, time.Duration(i)+1)
		_, err := client.Write([]byte("7:map key,"))
		require.NoError(t, err)
		require.Eventually(t, c.pending, 10*time.Second, time.Millisecond)
	}
	require.True(t, s.evict())
	require.Len(t, s.conns, 19)
}
