package stub

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Only sockets to loopback are used again: a query to any other address has a port of its own (RFC 5452 section 9.2).
func TestWhichSocketsAreUsedAgain(t *testing.T) {
	t.Parallel()
	for server, again := range map[string]bool{
		"127.0.0.1:53": true, "127.9.9.9:53": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true,
		"192.0.2.1:53": false, "10.0.0.1:53": false, "[2001:db8::1]:53": false, "[fe80::1]:53": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			var p sockets
			open := func() *socket {
				here, there := net.Pipe()
				t.Cleanup(func() {
					_ = here.Close()
					_ = there.Close()
				})
				return &socket{Conn: here, server: netip.MustParseAddrPort(server), opened: time.Now()}
			}
			s := open()
			p.put(s)
			require.Equal(t, again, len(p.idle) == 1, server)
			if !again {
				return
			}
			got, err := p.take(t.Context(), s.server)
			require.NoError(t, err)
			require.Same(t, s, got)
			require.Empty(t, p.idle, "one query at a time")
			s.queries = socketQueries - 1
			p.put(s)
			require.Empty(t, p.idle, "it has had its queries")

			p.put(open())
			time.Sleep(socketLife + 1)
			p.closeOld()
			require.Empty(t, p.idle, "it has had its time")
			for range maxIdle + 3 {
				p.put(open())
			}
			require.Len(t, p.idle, maxIdle)
			p.close()
			require.Empty(t, p.idle)
		})
	}
}

// A server may answer the queries of a connection one after the other, and block on a silent one: further queries use
// another connection.
func TestAStalledConnectionGetsNoMoreQueries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := onThisMachine()[0]
		connections := make([]*stream, maxStreams)
		for i := range connections {
			connections[i] = &stream{waiting: map[uint16]chan []byte{}}
		}
		p := streams{open: map[Server][]*stream{server: connections}}
		require.Same(t, connections[0], p.get(server))
		_, err := connections[0].register(make(chan []byte, 1))
		require.NoError(t, err)
		time.Sleep(stallTime)
		require.Same(t, connections[0], p.get(server), "it may still answer")
		time.Sleep(time.Nanosecond)
		require.Same(t, connections[1], p.get(server))
		connections[0].deliver([]byte{1, 2})
		require.Same(t, connections[0], p.get(server), "something has arrived")
		for _, c := range connections {
			_, err := c.register(make(chan []byte, 1))
			require.NoError(t, err)
		}
		time.Sleep(time.Hour)
		require.Same(t, connections[0], p.get(server), "all of them stall")
		require.Len(t, p.open[server], maxStreams)
	})
}
