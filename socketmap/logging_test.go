package socketmap_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/testkit"
	"github.com/policyd/policyd/socketmap"
)

// lines returns the lines of a log.
func lines(log *testkit.Log) []string {
	return strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
}

func TestProblemsWithClientsAreLoggedOncePerMinute(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits socketmap.Limits
		sends  string
		leaves bool // the client closes the connection
		msg    string
		attrs  string
	}{
		"not a netstring":    {sends: "secret\n", msg: "malformed request; connection closed", attrs: `reason="not a netstring"`},
		"too long":           {sends: "10001:", msg: "malformed request; connection closed", attrs: `reason="netstring over 10000 bytes"`},
		"no comma":           {sends: "6:secretX", msg: "malformed request; connection closed", attrs: `reason="missing comma after a netstring"`},
		"no map":             {sends: "6:secret,", msg: "malformed request; connection closed", attrs: `reason="request without a space between map name and key"`},
		"truncated":          {sends: "10:echo s", leaves: true, msg: "malformed request; connection closed", attrs: `reason="connection closed in the middle of a request"`},
		"stalled":            {sends: "10:echo s", msg: "request not complete in time; connection closed", attrs: "timeout=10s"},
		"too many, all idle": {limits: socketmap.Limits{MaxConnections: 1}, msg: "connection limit reached; closing the connection that has been idle longest", attrs: "limit=1"},
		"a panic":            {sends: "12:panic secret,", msg: "handler panicked", attrs: "map=panic"},
		"replies not read":   {sends: "10:echo hello,", msg: "client does not read its replies; connection closed", attrs: "timeout=10s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &testkit.Log{}
			s := &socketmap.Server{Logger: slog.New(slog.NewTextHandler(log, nil)), Limits: c.limits}
			bubble(t, s, func(t *testing.T, p *pipes) {
				for range 20 {
					conn := p.dial(t)
					if c.sends != "" {
						_, err := conn.Write([]byte(c.sends))
						require.True(t, err == nil || c.msg[:9] == "malformed")
					}
					if c.leaves {
						require.NoError(t, conn.Close())
					}
					time.Sleep(15 * time.Second)
				}
				if s.Stats().Panics > 0 {
					require.Equal(t, uint64(20), s.Stats().Panics)
				}
			})
			logged := lines(log)
			require.True(t, len(logged) == 5 || len(logged) == 10 && name == "a panic", "one line per minute: %q", logged)
			require.Contains(t, logged[0], c.msg)
			require.Contains(t, logged[0], c.attrs)
			require.Contains(t, logged[0], " times=1 ")
			require.Contains(t, strings.Join(logged[1:], ""), " times=4 ")
			require.NotContains(t, strings.Join(logged, ""), "secret\n")
		})
	}
}

func TestALogLineNamesListenerAndClient(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		log := &testkit.Log{}
		s := &socketmap.Server{Logger: slog.New(slog.NewTextHandler(log, nil))}
		tcp, unix := serve(t, s)
		address := map[string]string{"tcp": tcp, "unix": unix}[network]
		c := dial(t, address)
		exchange(t, c, "x", "")
		requireClosed(t, c)
		want := "listener=" + strings.TrimPrefix(address, "unix:")
		if network == "tcp" {
			want += " client=" + c.LocalAddr().String()
		}
		require.Contains(t, lines(log)[0], want+" reason=")
	}
}

// scarce is a listener of a process at its limit of open files: every other accept fails.
type scarce struct {
	pipes
	accepts atomic.Int64
}

func (s *scarce) Accept() (net.Conn, error) {
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	default:
	}
	if s.accepts.Add(1)%2 == 1 {
		return nil, fmt.Errorf("accept: %w", syscall.EMFILE)
	}
	c, other := net.Pipe()
	_ = other.Close()
	return c, nil
}

func TestALackOfFileDescriptorsIsLoggedOncePerMinuteAndRetried(t *testing.T) {
	t.Parallel()
	log := &testkit.Log{}
	s := &socketmap.Server{Logger: slog.New(slog.NewTextHandler(log, nil))}
	bubble(t, s, func(t *testing.T, _ *pipes) {
		l := &scarce{pipes: pipes{closed: make(chan struct{})}}
		ended := make(chan error)
		go func() { ended <- s.Serve(l) }()
		time.Sleep(150 * time.Second)
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-ended, socketmap.ErrServerClosed)
		require.Greater(t, l.accepts.Load(), int64(1000))
	})
	require.Len(t, lines(log), 3)
	require.Contains(t, lines(log)[0], "cannot accept connections")
}

// broken is a listener whose accept fails for good.
type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, fmt.Errorf("accept: %w", syscall.EINVAL) }

func TestServeReturnsAPermanentError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply { return socketmap.NotFound() })}
	require.ErrorIs(t, s.Serve(broken{l}), syscall.EINVAL)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed, "Serve closes the listener")
}
