package stub

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A socket to a loopback address is used for socketQueries queries, and not longer than socketLife.
const (
	socketQueries = 512
	socketLife    = 10 * time.Second
)

// socket is a UDP socket that is connected to a server. It is used for one query at a time.
type socket struct {
	net.Conn
	left int // for how many more queries it is used, the present one included; server.mu guards it
}

// socket returns the idle socket that was used last, or a new one.
func (s *server) socket(ctx context.Context) (c *socket, used bool, err error) {
	s.mu.Lock()
	last := len(s.idle) - 1
	if last >= 0 {
		c = s.idle[last]
		s.idle = s.idle[:last]
	}
	s.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	conn, err := new(net.Dialer).DialUDP(ctx, "udp", netip.AddrPort{}, s.Addr)
	if err != nil {
		return nil, false, err
	}
	return s.newSocket(conn), false, nil
}

func (s *server) newSocket(conn net.Conn) *socket {
	c := &socket{Conn: conn, left: 1}
	if s.Addr.Addr().Unmap().IsLoopback() {
		c.left = socketQueries
		time.AfterFunc(socketLife, func() { s.retire(c) })
	}
	return c
}

// keep makes a socket idle after a query, or closes it if it must not be used again.
func (s *server) keep(c *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.left--
	if c.left > 0 && !s.closed {
		s.idle = append(s.idle, c)
	} else {
		_ = c.Close()
	}
}

// retire closes an idle socket. A socket in use is closed when its query ends.
func (s *server) retire(c *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.left = 1
	if i := slices.Index(s.idle, c); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
		_ = c.Close()
	}
}
