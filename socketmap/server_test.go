package socketmap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/socketmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// maps has one map for each kind of reply.
func maps() *socketmap.Mux {
	m := &socketmap.Mux{}
	handle := func(name string, f func(key string) socketmap.Reply) {
		m.Handle(name, socketmap.HandlerFunc(func(_ context.Context, r socketmap.Request) socketmap.Reply { return f(r.Key) }))
	}
	handle("echo", func(key string) socketmap.Reply {
		if key == "" {
			return socketmap.NotFound()
		}
		return socketmap.OK(key)
	})
	handle("temp", socketmap.Temp)
	handle("perm", socketmap.Perm)
	handle("none", func(string) socketmap.Reply { return socketmap.Reply{} })
	handle("empty", func(string) socketmap.Reply { return socketmap.OK("") })
	handle("bytes", socketmap.OK)
	handle("panic", func(key string) socketmap.Reply { panic(key) })
	return m
}

// serve starts a server on TCP and on a unix socket and returns both addresses. The server stops with the test.
func serve(t testing.TB, s *socketmap.Server) (tcp, unix string) {
	t.Helper()
	if s.Handler == nil {
		s.Handler = maps()
	}
	t1, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t2, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	require.NoError(t, err)
	var serving sync.WaitGroup
	for _, l := range []net.Listener{t1, t2} {
		serving.Go(func() {
			if err := s.Serve(l); !errors.Is(err, socketmap.ErrServerClosed) {
				t.Errorf("Serve returned %v", err)
			}
		})
	}
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		serving.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
	})
	return t1.Addr().String(), "unix:" + t2.Addr().String()
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	c, err := net.Dial(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// requireClosed requires that the server closes the connection without a reply.
func requireClosed(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// exchange sends a request, or a part of one, and requires the reply.
func exchange(t testing.TB, c net.Conn, request, reply string) {
	t.Helper()
	if request != "" { // a pipe blocks even then
		_, err := c.Write([]byte(request))
		require.NoError(t, err)
	}
	got := make([]byte, len(reply))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, reply, string(got))
}

// pipes is a listener without sockets, for tests in which synctest controls the time.
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

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial returns a connection that the server has accepted. It first waits until earlier connections that have had their reply
// are idle.
func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	synctest.Wait()
	p.conns <- theirs
	synctest.Wait()
	t.Cleanup(func() { _ = ours.Close() })
	return ours
}

// bubble runs f in a synctest bubble with a server that listens on pipes.
func bubble(t *testing.T, s *socketmap.Server, f func(t *testing.T, p *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if s.Handler == nil {
			s.Handler = maps()
		}
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(p) }()
		t.Cleanup(func() {
			require.NoError(t, s.Close())
			require.ErrorIs(t, <-served, socketmap.ErrServerClosed)
		})
		synctest.Wait()
		f(t, p)
	})
}

func TestReplay(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/replay.txt")
	require.NoError(t, err)
	s := &socketmap.Server{}
	tcp, unix := serve(t, s)
	n := 0
	for line := range strings.Lines(string(file)) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		n++
		quoted, err := strconv.QuotedPrefix(line)
		require.NoError(t, err, line)
		request, err := strconv.Unquote(quoted)
		require.NoError(t, err, line)
		want := strings.TrimSpace(line[len(quoted):])
		for _, address := range []string{tcp, unix} {
			for _, piece := range []int{1, 16, 4096} {
				c := dial(t, address)
				for rest := request; rest != ""; rest = rest[min(piece, len(rest)):] {
					if _, err := c.Write([]byte(rest[:min(piece, len(rest))])); err != nil {
						break // closed already
					}
				}
				if want == "close" {
					requireClosed(t, c)
				} else {
					reply, err := strconv.Unquote(want)
					require.NoError(t, err, line)
					exchange(t, c, "", reply)
					exchange(t, c, "10:echo still,", "8:OK still,")
				}
				require.NoError(t, c.Close())
			}
		}
	}
	require.Positive(t, n)
	require.Positive(t, s.Stats().Malformed)
	require.Equal(t, uint64(6), s.Stats().Panics)
}

func TestQueryOf10000Bytes(t *testing.T) {
	t.Parallel()
	tcp, _ := serve(t, &socketmap.Server{})
	c := dial(t, tcp)
	key := strings.Repeat("x", socketmap.MaxQuery-len("echo "))
	exchange(t, c, string(socketmap.AppendNetstring(nil, "echo "+key)), string(socketmap.AppendNetstring(nil, "OK "+key)))
	_, err := c.Write(socketmap.AppendNetstring(nil, "echo "+key+"x"))
	require.NoError(t, err)
	requireClosed(t, c)
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	_, unix := serve(t, &socketmap.Server{})
	c := dial(t, unix)
	var requests, replies []byte
	for i := range 1000 {
		requests = socketmap.AppendNetstring(requests, fmt.Sprintf("echo %d", i))
		replies = socketmap.AppendNetstring(replies, fmt.Sprintf("OK %d", i))
	}
	go func() { _, _ = c.Write(requests) }()
	exchange(t, c, "", string(replies))
}

func TestHandlerSeesTheAddressOfTheClient(t *testing.T) {
	t.Parallel()
	tcp, _ := serve(t, &socketmap.Server{Handler: socketmap.HandlerFunc(func(_ context.Context, r socketmap.Request) socketmap.Reply {
		return socketmap.OK(r.RemoteAddr.String())
	})})
	c := dial(t, tcp)
	exchange(t, c, "3:a b,", string(socketmap.AppendNetstring(nil, "OK "+c.LocalAddr().String())))
}

func TestTheLastRequestOfAHalfClosedConnectionIsAnswered(t *testing.T) {
	t.Parallel()
	tcp, unix := serve(t, &socketmap.Server{})
	for _, address := range []string{tcp, unix} {
		for requests := range 3 {
			c := dial(t, address)
			for range requests {
				exchange(t, c, "10:echo hello,", "8:OK hello,")
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

func TestReconnectsBeyondTheLimitAreServed(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Limits: socketmap.Limits{MaxConnections: 16}}
	_, unix := serve(t, s)
	for range 500 {
		c := dial(t, unix)
		exchange(t, c, "10:echo hello,", "8:OK hello,")
	}
	require.LessOrEqual(t, s.Stats().Open, 16)
	require.Positive(t, s.Stats().Evicted)
}

func TestCachedReplyAllocatesOnce(t *testing.T) {
	_, unix := serve(t, &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		return socketmap.OK("yes")
	})})
	c := dial(t, unix)
	request, reply := []byte("10:echo hello,"), make([]byte, len("6:OK yes,"))
	got := testing.AllocsPerRun(1000, func() {
		_, _ = c.Write(request)
		_, _ = io.ReadFull(c, reply)
	})
	require.LessOrEqual(t, got, 1.0, "the text of the request")
}
