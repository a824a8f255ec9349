package check_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// blackHole returns an address that drops every SYN to a port: there is a listener whose queue is full.
func blackHole(t *testing.T, port uint16) string {
	t.Helper()
	addr := netip.MustParseAddr(fmt.Sprintf("127.0.%d.250", 100+port%100))
	at := &unix.SockaddrInet4{Addr: addr.As4(), Port: int(port)}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)) // the port is held by testkit.Port
	require.NoError(t, unix.Bind(fd, at))
	require.NoError(t, unix.Listen(fd, 0))
	for range 4 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, unix.Close(c)) })
		if err := unix.Connect(c, at); err != nil {
			require.ErrorIs(t, err, unix.EINPROGRESS)
		}
		ready := []unix.PollFd{{Fd: int32(c), Events: unix.POLLOUT}}
		_, _ = unix.Poll(ready, int((200 * time.Millisecond).Milliseconds()))
	}
	return addr.String()
}
