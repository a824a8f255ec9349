// Package testkit has what the tests of several packages share: a log that can be read while it is written, ports
// that stay free, and addresses that do not answer.
package testkit

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Log is a writer for a logger. Its text can be read while it is written. The zero value is empty.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write appends to the text.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns the text so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count returns how often s is in the text.
func (l *Log) Count(s string) int { return strings.Count(l.String(), s) }

// Logger returns a logger that writes text to l.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Port returns a port on which no other program can start to listen before the test ends, and for UDP on 127.0.0.1 the
// test itself cannot either. Over TCP the test can listen on it, on several addresses of 127.0.0.0/8 at the same time;
// until then connections to it are refused, and datagrams to 127.0.0.1 always are.
//
// The TCP port is bound and does not listen: with SO_REUSEADDR, which Go sets, that keeps it from being given to a
// socket that asks for any port, and not from one that asks for this port. The UDP port is bound and connected: it
// takes datagrams from its peer only.
func Port(t testing.TB) uint16 {
	t.Helper()
	const attempts = 100 // another program may have the UDP port
	for range attempts {
		tcp := socket(t, unix.SOCK_STREAM)
		check(t, unix.Bind(tcp, &unix.SockaddrInet4{}))
		port := name(t, tcp).Port
		udp := socket(t, unix.SOCK_DGRAM)
		err := unix.Bind(udp, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		check(t, err)
		const discard = 9
		check(t, unix.Connect(udp, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: discard}))
		return uint16(port)
	}
	t.Fatal("no port is free for both TCP and UDP")
	return 0
}

// BlackHole makes an address drop every SYN until the test ends: it has a listener whose queue is full. Port 0 is any
// port. It returns the address.
func BlackHole(t testing.TB, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	const connections, milliseconds = 4, 200
	fd := socket(t, unix.SOCK_STREAM)
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}))
	check(t, unix.Listen(fd, 0))
	here := name(t, fd)
	for range connections {
		c := socket(t, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
		if err := unix.Connect(c, here); !errors.Is(err, unix.EINPROGRESS) {
			check(t, err)
		}
		// connections that do not fit stay open
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(c), Events: unix.POLLOUT}}, milliseconds)
	}
	return netip.AddrPortFrom(at.Addr(), uint16(here.Port))
}

// socket returns a socket that is closed when the test ends.
func socket(t testing.TB, kind int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	if kind&unix.SOCK_DGRAM == 0 {
		check(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	}
	return fd
}

func name(t testing.TB, fd int) *unix.SockaddrInet4 {
	t.Helper()
	at, err := unix.Getsockname(fd)
	check(t, err)
	return at.(*unix.SockaddrInet4)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
