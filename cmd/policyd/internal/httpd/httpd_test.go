package httpd_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves h on loopback until the test ends, or stop is called.
func start(t *testing.T, h http.HandlerFunc) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := httpd.Run(ctx, l, h, httpd.ForOperator, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// code sends a request and returns the status code of the answer, 0 for none.
func code(c net.Conn, request string) int {
	if _, err := io.WriteString(c, request); err != nil {
		return 0
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestARequestUnderWayIsAnswered(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	address, stop := start(t, func(http.ResponseWriter, *http.Request) { close(begun); <-goOn })
	c := dial(t, address)
	answered := make(chan int, 1)
	go func() { answered <- code(c, get) }()
	<-begun
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	close(goOn)
	require.Equal(t, http.StatusOK, <-answered)
	<-stopped
}

func TestStoppingDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	address, stop := start(t, func(_ http.ResponseWriter, r *http.Request) { close(begun); <-r.Context().Done() })
	_, err := io.WriteString(dial(t, address), get)
	require.NoError(t, err)
	<-begun
	stop()
}

func TestABrokenListenerEndsIt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorIs(t, httpd.Run(t.Context(), l, http.NotFoundHandler(), httpd.ForOperator, slog.New(slog.DiscardHandler)), net.ErrClosed)
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	address, _ := start(t, func(http.ResponseWriter, *http.Request) {})
	big := "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 16<<10) + "\r\n\r\n"
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, code(dial(t, address), big))
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now, most := 0, 0
	full, goOn := make(chan struct{}), make(chan struct{})
	address, _ := start(t, func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		if now++; now > most {
			if most = now; most == 32 {
				close(full)
			}
		}
		mu.Unlock()
		<-goOn
		mu.Lock()
		defer mu.Unlock()
		now--
	})
	var all sync.WaitGroup
	for range 40 {
		c := dial(t, address)
		all.Go(func() {
			if got := code(c, get); got != http.StatusOK {
				t.Errorf("the answer is %d", got)
			}
			_ = c.Close()
		})
	}
	<-full
	close(goOn)
	all.Wait()
	require.Equal(t, 32, most)
}
