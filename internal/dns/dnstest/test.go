package dnstest

import (
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
)

var started atomic.Uint32

// New starts a server on loopback, and stops it when the test ends. It has an address to itself, from which no
// connection is made. Once it has stopped, its port refuses connections, and another server can use the port.
func New(t testing.TB) *Server {
	t.Helper()
	process, number := os.Getpid(), started.Add(1)
	at := netip.AddrFrom4([4]byte{127, 64 | byte(process>>8)&63, byte(process), byte(number)})
	s, err := Start(at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
