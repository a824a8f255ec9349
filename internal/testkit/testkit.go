// Package testkit is what the tests of several packages share: a log that can be read while it is written, and ports
// that stay free.
package testkit

import (
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
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

// Port returns a TCP port on which no other program can start to listen before the test ends. The test itself can
// listen on it, on several addresses of 127.0.0.0/8 at the same time; until then connections to it are refused.
//
// The port is bound and does not listen: with SO_REUSEADDR, which Go sets, that keeps it from being given to a socket
// that asks for any port, and not from one that asks for this port.
func Port(t testing.TB) uint16 {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(at.(*syscall.SockaddrInet4).Port)
}
