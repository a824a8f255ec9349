package testkit_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/testkit"
)

func TestPortIsHeldForTheTest(t *testing.T) {
	t.Parallel()
	port := testkit.Port(t)
	var d net.Dialer
	_, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	c, err := d.DialContext(t.Context(), "udp", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	_, err = c.Write([]byte("question"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, c.Close())
	var lc net.ListenConfig
	for _, host := range []string{"127.0.0.1", "127.0.3.1"} {
		l, err := lc.Listen(t.Context(), "tcp", fmt.Sprintf("%s:%d", host, port))
		require.NoError(t, err, "the test can listen on it, on several addresses")
		t.Cleanup(func() { require.NoError(t, l.Close()) })
	}
	for range 100 {
		l, err := lc.Listen(t.Context(), "tcp4", "127.0.4.1:0")
		require.NoError(t, err)
		require.NotEqual(t, int(port), l.Addr().(*net.TCPAddr).Port, "no socket that asks for any port gets it")
		t.Cleanup(func() { require.NoError(t, l.Close()) })
	}
}

func TestLogCanBeReadWhileItIsWritten(t *testing.T) {
	t.Parallel()
	var log testkit.Log
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			log.Logger().Info("event")
		}
	}()
	for range 100 {
		_ = log.String()
	}
	<-done
	require.Equal(t, 100, log.Count("msg=event"))
}
