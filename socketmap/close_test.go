package socketmap_test

import (
	"context"
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

func TestCloseDoesNotWaitForAHandler(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, _ socketmap.Request) socketmap.Reply {
		entered <- struct{}{}
		<-ctx.Done()
		<-leave
		return socketmap.OK("late")
	})}
	tcp, unix := serve(t, s)
	for _, address := range []string{tcp, unix} {
		says(t, dial(t, address), "10:echo hello,", "")
		<-entered
	}
	require.NoError(t, s.Close())
	require.Equal(t, 2, s.Stats().Open)
	close(leave)
	require.Eventually(t, func() bool { return s.Stats().Open == 0 }, 10*time.Second, time.Millisecond)
}

func TestAHandlerMayCloseTheServer(t *testing.T) {
	t.Parallel()
	s, done := &socketmap.Server{}, make(chan error, 1)
	s.Handler = socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		done <- s.Close()
		return socketmap.OK("too late")
	})
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	says(t, c, "10:echo hello,", "")
	require.NoError(t, <-done)
	closed(t, c)
}

// Whoever sends the beginning of a request with every request does not keep the server either.
func TestShutdownEndsUnderBeginnings(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{}
	tcp, unix := serve(t, s)
	var clients sync.WaitGroup
	for _, address := range []string{tcp, unix} {
		c := dial(t, address)
		says(t, c, "10:echo hello,10:ec", "8:OK hello,")
		clients.Go(func() {
			reply := make([]byte, len("8:OK hello,"))
			for err := error(nil); err == nil; {
				if _, err = c.Write([]byte("ho hello,10:ec")); err == nil {
					_, err = io.ReadFull(c, reply)
				}
			}
		})
	}
	require.NoError(t, s.Shutdown(t.Context()))
	clients.Wait()
}

func TestAStatusThatThereIsNotIsTemporary(t *testing.T) {
	t.Parallel()
	for _, status := range []socketmap.Status{socketmap.StatusPerm + 1, 8, 255} {
		s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
			return socketmap.Reply{Status: status, Text: "yes"}
		})}
		tcp, _ := serve(t, s)
		says(t, dial(t, tcp), "10:echo hello,", "47:TEMP internal error: a status that there is not,")
		require.Eventually(t, func() bool { return s.Stats().Replies[socketmap.StatusTemp] == 1 }, 10*time.Second, time.Millisecond)
	}
}

// hooked tells of a read deadline before it is set.
type hooked struct {
	net.Conn
	deadline func(by time.Time)
}

func (h hooked) SetReadDeadline(by time.Time) error {
	h.deadline(by)
	return h.Conn.SetReadDeadline(by)
}

// The server begins to shut down just when a connection, looked at again, is about to be given the rest of its time.
func TestShutdownIsNotMissedByAnIdleConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &socketmap.Server{Handler: maps()}
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		served, shut := make(chan error, 1), make(chan time.Duration, 1)
		go func() { served <- s.Serve(p) }()
		ours, theirs := net.Pipe()
		var armed atomic.Bool
		woken := make(chan struct{})
		p.conns <- hooked{theirs, func(by time.Time) {
			if by.Before(time.Now()) {
				close(woken)
				return
			}
			if !armed.CompareAndSwap(true, false) {
				return
			}
			go func() {
				begun := time.Now()
				if err := s.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				shut <- time.Since(begun)
			}()
			<-woken
			time.Sleep(time.Millisecond) // the deadline that wakes is set, and ours comes after it
		}}
		for range 3 {
			says(t, ours, "10:echo hello,", "8:OK hello,")
		}
		synctest.Wait()
		armed.Store(true)
		require.Less(t, <-shut, time.Second)
		require.ErrorIs(t, <-served, socketmap.ErrServerClosed)
	})
}

// scrambled is made of a socket and reads in its own way.
type scrambled struct{ *net.TCPConn }

func (s scrambled) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	copy(b, scramble(b[:n]))
	return n, err
}

func scramble(b []byte) []byte {
	s := make([]byte, len(b))
	for i := range b {
		s[i] = b[i] ^ 1
	}
	return s
}

func TestAConnectionMayReadInItsOwnWay(t *testing.T) {
	t.Parallel()
	s := &socketmap.Server{Handler: maps()}
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(p) }()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c := dial(t, l.Addr().String())
	socket, err := l.AcceptTCP()
	require.NoError(t, err)
	p.conns <- scrambled{socket}
	for range 3 {
		says(t, c, string(scramble([]byte("10:echo hello,"))), "8:OK hello,")
	}
	require.NoError(t, s.Shutdown(t.Context()))
	require.ErrorIs(t, <-served, socketmap.ErrServerClosed)
}
