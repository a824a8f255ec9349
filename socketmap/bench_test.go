package socketmap_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// BenchmarkServe measures requests over a unix socket, from 1 and from 16 connections. "constant" is a loop that reads one
// netstring and writes one fixed reply: no server can be faster with net.Conn.
func BenchmarkServe(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("constant/clients=%d", clients), func(b *testing.B) {
			l := benchListener(b)
			var serving sync.WaitGroup
			b.Cleanup(serving.Wait)
			b.Cleanup(func() { _ = l.Close() })
			serving.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					serving.Go(func() { constant(c) })
				}
			})
			ask(b, l.Addr().String(), clients)
		})
		b.Run(fmt.Sprintf("server/clients=%d", clients), func(b *testing.B) {
			l := benchListener(b)
			s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
				return socketmap.OK("yes")
			})}
			served := make(chan error, 1)
			go func() { served <- s.Serve(l) }()
			b.Cleanup(func() {
				require.NoError(b, s.Close())
				if err := <-served; !errors.Is(err, socketmap.ErrServerClosed) {
					b.Error(err)
				}
			})
			ask(b, l.Addr().String(), clients)
		})
	}
}

func benchListener(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "sock"))
	require.NoError(b, err)
	return l
}

// constant answers every request with the same reply.
func constant(c net.Conn) {
	defer func() { _ = c.Close() }()
	in, reply := bufio.NewReader(c), socketmap.AppendNetstring(nil, "OK yes")
	for {
		if _, err := socketmap.ReadNetstring(in, socketmap.MaxQuery); err != nil {
			return
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

// ask sends b.N requests over a number of connections.
func ask(b *testing.B, path string, clients int) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	request := socketmap.AppendNetstring(nil, "tls-policy example.com")
	b.ReportAllocs()
	b.ResetTimer()
	var asking sync.WaitGroup
	for range clients {
		c, err := net.Dial("unix", path)
		require.NoError(b, err)
		asking.Go(func() {
			defer func() { _ = c.Close() }()
			reply := make([]byte, len("6:OK yes,"))
			for left.Add(-1) >= 0 {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(c, reply); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	asking.Wait()
}
