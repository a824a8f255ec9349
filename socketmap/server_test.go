package socketmap_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/internal/unixsock"
	"github.com/policyd/policyd/socketmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// maps is a handler with one map for each kind of reply.
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

// serve starts a server on TCP and on a unix socket, and stops it with the test.
func serve(t *testing.T, s *socketmap.Server) (tcp, unix string) {
	t.Helper()
	if s.Handler == nil {
		s.Handler = maps()
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	path := "unix:" + filepath.Join(t.TempDir(), "sock")
	var addresses []string
	var serving sync.WaitGroup
	for _, address := range []string{"127.0.0.1:0", path} {
		l, err := unixsock.Listen(t.Context(), address, unixsock.Options{})
		require.NoError(t, err)
		addresses = append(addresses, l.Addr().String())
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
	return addresses[0], "unix:" + addresses[1]
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	c, err := net.Dial(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

func closed(t *testing.T, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n, "the connection is closed without an answer")
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is closed")
}

func says(t *testing.T, c net.Conn, request, reply string) {
	t.Helper()
	_, err := c.Write([]byte(request))
	require.NoError(t, err)
	got := make([]byte, len(reply))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, reply, string(got))
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
					_, err := c.Write([]byte(rest[:min(piece, len(rest))]))
					if err != nil {
						break // closed already
					}
				}
				if want == "close" {
					closed(t, c)
				} else {
					reply, err := strconv.Unquote(want)
					require.NoError(t, err, line)
					says(t, c, "", reply)
					says(t, c, "10:echo still,", "8:OK still,")
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
	says(t, c, string(socketmap.AppendNetstring(nil, "echo "+key)), string(socketmap.AppendNetstring(nil, "OK "+key)))
	_, err := c.Write(socketmap.AppendNetstring(nil, "echo "+key+"x"))
	require.NoError(t, err)
	closed(t, c)
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
	says(t, c, "", string(replies))
}

func TestSilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	s.SetLimits(socketmap.Limits{IdleTimeout: 50 * time.Millisecond})
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	says(t, c, "10:echo hello,", "8:OK hello,")
	closed(t, c)
	require.Equal(t, uint64(1), s.Stats().Idle)
}

func TestStalledRequestIsClosed(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	s.SetLimits(socketmap.Limits{RequestTimeout: 100 * time.Millisecond})
	tcp, _ := serve(t, s)
	d := dial(t, tcp)
	_, err := d.Write([]byte("10:echo he"))
	require.NoError(t, err)
	closed(t, d)
	require.Equal(t, uint64(1), s.Stats().Stalled)
}

func TestTheLongestIdleConnectionMakesRoom(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	s.SetLimits(socketmap.Limits{MaxConnections: 3})
	tcp, _ := serve(t, s)
	var conns []net.Conn
	rested := func() {
		require.Eventually(t, func() bool { return s.Idle() == len(conns) }, 10*time.Second, time.Millisecond)
	}
	for range 3 {
		c := dial(t, tcp)
		says(t, c, "10:echo hello,", "8:OK hello,")
		conns = append(conns, c)
		rested()
	}
	says(t, conns[0], "10:echo again,", "8:OK again,")
	rested()
	says(t, dial(t, tcp), "10:echo hello,", "8:OK hello,")
	closed(t, conns[1])
	says(t, conns[0], "10:echo again,", "8:OK again,")
	says(t, conns[2], "10:echo again,", "8:OK again,")
	require.Equal(t, uint64(1), s.Stats().Evicted)
	require.Equal(t, 3, s.Stats().Open)
}

func TestAHalfRequestDoesNotHoldAPlace(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	s.SetLimits(socketmap.Limits{MaxConnections: 1})
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	says(t, c, "10:echo hello,10:echo", "8:OK hello,")
	says(t, dial(t, tcp), "10:echo hello,", "8:OK hello,")
	closed(t, c)
}

func TestABusyConnectionIsNotClosedForANewOne(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		close(entered)
		<-leave
		return socketmap.OK("late")
	})}
	s.SetLimits(socketmap.Limits{MaxConnections: 1})
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	says(t, c, "10:echo hello,", "")
	<-entered
	closed(t, dial(t, tcp))
	close(leave)
	says(t, c, "", "7:OK late,")
	require.Equal(t, uint64(1), s.Stats().Refused)
}

func TestTenThousandReconnectsAreServed(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	s.SetLimits(socketmap.Limits{MaxConnections: 64})
	_, unix := serve(t, s)
	for range 10_000 / 64 {
		for range 64 {
			c := dial(t, unix)
			says(t, c, "10:echo hello,", "8:OK hello,")
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	require.LessOrEqual(t, s.Stats().Open, 64)
	require.Positive(t, s.Stats().Evicted)
}

func TestShutdownAnswersWhatHasBegun(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, _ socketmap.Request) socketmap.Reply {
		close(entered)
		<-leave
		return socketmap.OK(fmt.Sprint("late, context: ", ctx.Err()))
	})}
	tcp, unix := serve(t, s)
	idle, busy := dial(t, unix), dial(t, tcp)
	says(t, busy, "10:echo hello,", "")
	<-entered
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	closed(t, idle)
	select {
	case err := <-done:
		t.Fatal("Shutdown did not wait", err)
	default:
	}
	close(leave)
	says(t, busy, "", "23:OK late, context: <nil>,")
	require.NoError(t, <-done)
	_, err := net.Dial("tcp", tcp)
	require.Error(t, err, "nobody listens")
	_, err = os.Lstat(strings.TrimPrefix(unix, "unix:"))
	require.ErrorIs(t, err, os.ErrNotExist, "the socket is gone")
}

func TestShutdownAnswersARequestOfWhichAByteHasCome(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	says(t, c, "10:echo hello,10:echo", "8:OK hello,")
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool { _, err := net.Dial("tcp", tcp); return err != nil }, 10*time.Second, time.Millisecond)
	says(t, c, " hello,", "8:OK hello,")
	require.NoError(t, <-done)
}

// A client that asks again as soon as it has its answer does not keep the server from closing: it is answered what is under
// way and once more.
func TestShutdownEndsUnderLoad(t *testing.T) {
	t.Parallel()
	var closing atomic.Bool
	var before, after atomic.Int64
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		if before.Add(1); closing.Load() {
			after.Add(1)
		}
		return socketmap.OK("hello")
	})}
	tcp, unix := serve(t, s)
	addresses := []string{tcp, unix, tcp, unix}
	var clients sync.WaitGroup
	for _, address := range addresses {
		c, err := socketmap.Dial(t.Context(), address)
		require.NoError(t, err)
		clients.Go(func() {
			defer func() { _ = c.Close() }()
			for err == nil {
				_, err = c.Lookup(t.Context(), socketmap.Request{Map: "map", Key: "key"})
			}
		})
	}
	require.Eventually(t, func() bool { return before.Load() > 100 }, 10*time.Second, time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool { _, err := net.Dial("tcp", tcp); return err != nil }, 10*time.Second, time.Millisecond)
	closing.Store(true)
	require.NoError(t, <-done)
	clients.Wait()
	require.LessOrEqual(t, after.Load(), int64(2*len(addresses)))
}

// A handler that ends with its context is still heard when the time of Shutdown is over: who asked gets an answer, and not the
// end of the connection.
func TestShutdownHearsWhoEndsWithTheContext(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, _ socketmap.Request) socketmap.Reply {
		close(entered)
		<-ctx.Done()
		return socketmap.Temp("no time left")
	})}
	tcp, _ := serve(t, s)
	busy := dial(t, tcp)
	says(t, busy, "10:echo hello,", "")
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	says(t, busy, "", "17:TEMP no time left,")
	closed(t, busy)
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, _ socketmap.Request) socketmap.Reply {
		close(entered)
		<-ctx.Done()
		time.Sleep(time.Second)
		return socketmap.OK("too late")
	})}
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	says(t, c, "10:echo hello,", "")
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	closed(t, c)
}

func TestClient(t *testing.T) {
	t.Parallel()
	tcp, unix := serve(t, &socketmap.Server{})
	for _, address := range []string{tcp, unix} {
		c, err := socketmap.Dial(t.Context(), address)
		require.NoError(t, err)
		for range 3 {
			r, err := c.Lookup(t.Context(), socketmap.Request{Map: "echo", Key: "a b"})
			require.NoError(t, err)
			require.Equal(t, socketmap.OK("a b"), r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r, err := c.Lookup(ctx, socketmap.Request{Map: "echo", Key: "a"})
		require.Error(t, err)
		require.Equal(t, socketmap.StatusTemp, r.Status, "an error is never an answer")
		require.NoError(t, c.Close())
	}
}

func TestCachedLookupAllocates(t *testing.T) {
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply { return socketmap.OK("yes") })}
	_, unix := serve(t, s)
	c := dial(t, unix)
	request, reply := []byte("10:echo hello,"), make([]byte, len("6:OK yes,"))
	got := testing.AllocsPerRun(1000, func() {
		_, _ = c.Write(request)
		_, _ = io.ReadFull(c, reply)
	})
	require.LessOrEqual(t, got, 1.0, "one allocation a request: its text")
}

func FuzzReadNetstring(f *testing.F) {
	for _, s := range []string{"5:hello,", "0:,", "05:hello,", "5:hello", "99999:", "5:hello;", ":"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := socketmap.ReadNetstring(bufio.NewReader(strings.NewReader(string(b))), 100)
		if err != nil {
			require.Empty(t, payload)
			return
		}
		require.LessOrEqual(t, len(payload), 100)
		require.Equal(t, string(b[:len(socketmap.AppendNetstring(nil, payload))]), string(socketmap.AppendNetstring(nil, payload)), "what was read is what was written")
	})
}

func FuzzReply(f *testing.F) {
	f.Add(byte(1), "secure match=a")
	f.Add(byte(0), "later\x00")
	f.Fuzz(func(t *testing.T, status byte, text string) {
		wire := socketmap.Reply{Status: socketmap.Status(status % 5), Text: text}.String()
		for i := range len(wire) {
			require.True(t, wire[i] >= ' ' && wire[i] <= '~', "printable ASCII only")
		}
		r, err := socketmap.ParseReply(wire)
		require.NoError(t, err)
		require.Equal(t, wire, r.String(), "what is written is read back")
		require.False(t, r.Status == socketmap.StatusOK && r.Text == "", "OK has data")
		require.LessOrEqual(t, len(wire), socketmap.MaxReply)
		if socketmap.Status(status%5) != socketmap.StatusNotFound {
			require.NotEqual(t, socketmap.StatusNotFound, r.Status, "never a weaker answer")
		}
	})
}

func TestParseReplyIsStrict(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "OK", "OK ", "NOTFOUND", "ok x", "TEMP", "OKAY x", " OK x"} {
		r, err := socketmap.ParseReply(s)
		require.ErrorIs(t, err, socketmap.ErrReply, "%q", s)
		require.Equal(t, socketmap.StatusTemp, r.Status)
	}
}

func TestReplyIsCut(t *testing.T) {
	t.Parallel()
	require.Len(t, socketmap.Temp(strings.Repeat("x", 1000)).String(), len("TEMP ")+200)
	require.Len(t, socketmap.OK(strings.Repeat("x", socketmap.MaxReply-3)).String(), socketmap.MaxReply)
	require.Equal(t, "TEMP internal error: a reply over 100,000 bytes", socketmap.OK(strings.Repeat("x", socketmap.MaxReply-2)).String())
}
