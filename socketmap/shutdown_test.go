package socketmap_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

func TestShutdownAnswersRequestsThatHaveBegun(t *testing.T) {
	t.Parallel()
	var leave chan struct{}
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, r socketmap.Request) socketmap.Reply {
		if r.Key == "slow" {
			<-leave
		}
		return socketmap.OK(fmt.Sprint("context: ", ctx.Err()))
	})}
	bubble(t, s, func(t *testing.T, p *pipes) {
		leave = make(chan struct{})
		idle, busy, half := p.dial(t), p.dial(t), p.dial(t)
		exchange(t, busy, "9:echo slow,", "")
		exchange(t, half, "9:echo", "")
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(context.Background()) }()
		requireClosed(t, idle)
		time.Sleep(5 * time.Second) // less than RequestTimeout
		require.Empty(t, done, "Shutdown waits")
		close(leave)
		exchange(t, busy, "", "17:OK context: <nil>,")
		exchange(t, half, " fast,", "17:OK context: <nil>,")
		require.NoError(t, <-done)
		requireClosed(t, half)
		require.Zero(t, s.Stats().Open)
	})
}

// A client that sends its next request, or a part of it, without a pause does not keep the server from closing.
func TestShutdownEndsUnderLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ first, next string }{
		"requests":   {"10:echo hello,", "10:echo hello,"},
		"beginnings": {"10:echo hello,10:ec", "ho hello,10:ec"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(_ context.Context, r socketmap.Request) socketmap.Reply {
				return socketmap.OK(r.Key)
			})}
			tcp, unix := serve(t, s)
			var clients sync.WaitGroup
			for _, address := range []string{tcp, unix, tcp, unix} {
				conn := dial(t, address)
				exchange(t, conn, c.first, "8:OK hello,")
				clients.Go(func() {
					reply := make([]byte, len("8:OK hello,"))
					for err := error(nil); err == nil; {
						if _, err = conn.Write([]byte(c.next)); err == nil {
							_, err = io.ReadFull(conn, reply)
						}
					}
				})
			}
			require.NoError(t, s.Shutdown(context.Background()))
			clients.Wait()
		})
	}
}

func TestShutdownEndsTheContextsOfHandlersWithItsOwn(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, r socketmap.Request) socketmap.Reply {
		<-ctx.Done()
		if r.Key == "slow" {
			time.Sleep(time.Hour)
		}
		return socketmap.Temp("shutting down")
	})}
	bubble(t, s, func(t *testing.T, p *pipes) {
		fast, slow := p.dial(t), p.dial(t)
		exchange(t, fast, "9:echo fast,", "")
		exchange(t, slow, "9:echo slow,", "")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(ctx) }()
		exchange(t, fast, "", "18:TEMP shutting down,")
		begun := time.Now()
		require.ErrorIs(t, <-done, context.DeadlineExceeded)
		require.LessOrEqual(t, time.Since(begun), time.Second, "it does not wait for a handler that ignores its context")
		requireClosed(t, slow)
		time.Sleep(2 * time.Hour)
	})
}

func TestCloseDoesNotWaitForAHandler(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, _ socketmap.Request) socketmap.Reply {
		<-ctx.Done()
		time.Sleep(time.Hour)
		return socketmap.OK("late")
	})}
	bubble(t, s, func(t *testing.T, p *pipes) {
		c := p.dial(t)
		exchange(t, c, "10:echo hello,", "")
		synctest.Wait()
		require.NoError(t, s.Close())
		requireClosed(t, c)
		require.Equal(t, 1, s.Stats().Open)
		time.Sleep(2 * time.Hour)
		require.Zero(t, s.Stats().Open)
	})
}

func TestAHandlerMayCloseTheServer(t *testing.T) {
	t.Parallel()
	s, done := &socketmap.Server{}, make(chan error, 1)
	s.Handler = socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		done <- s.Close()
		return socketmap.OK("late")
	})
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	exchange(t, c, "10:echo hello,", "")
	require.NoError(t, <-done)
	requireClosed(t, c)
}

func TestServeAfterCloseReturns(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Handler: maps()}
	require.NoError(t, s.Close())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.ErrorIs(t, s.Serve(l), socketmap.ErrServerClosed)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// hooked calls a function before each read deadline that is set.
type hooked struct {
	net.Conn
	deadline func(by time.Time)
}

func (h hooked) SetReadDeadline(by time.Time) error {
	h.deadline(by)
	return h.Conn.SetReadDeadline(by)
}

// Shutdown begins while a connection is about to set its idle deadline.
func TestShutdownIsNotMissedByAnIdleConnection(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	bubble(t, s, func(t *testing.T, p *pipes) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		var armed atomic.Bool
		shut := make(chan time.Duration, 1)
		p.conns <- hooked{theirs, func(time.Time) {
			if !armed.CompareAndSwap(true, false) {
				return
			}
			begun := time.Now()
			go func() {
				if err := s.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				shut <- time.Since(begun)
			}()
			time.Sleep(time.Millisecond) // until Shutdown has set its deadline, which the one of the connection then replaces
		}}
		exchange(t, ours, "10:echo hello,", "8:OK hello,")
		synctest.Wait()
		time.Sleep(time.Minute)
		armed.Store(true)
		exchange(t, ours, "10:echo hello,", "8:OK hello,")
		require.Less(t, <-shut, time.Second)
	})
}
