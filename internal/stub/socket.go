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
	left int // queries, the present one included; transport.mu guards it
}

// socket returns the idle socket that was used last, or a new one.
func (t *transport) socket(ctx context.Context, s Server) (c *socket, used bool, err error) {
	t.mu.Lock()
	if idle := t.idle[s]; len(idle) > 0 {
		defer t.mu.Unlock()
		t.idle[s] = idle[:len(idle)-1]
		return idle[len(idle)-1], true, nil
	}
	t.mu.Unlock()
	conn, err := new(net.Dialer).DialUDP(ctx, "udp", netip.AddrPort{}, s.Addr)
	if err != nil {
		return nil, false, err
	}
	return t.newSocket(s, conn), false, nil
}

func (t *transport) newSocket(s Server, conn net.Conn) *socket {
	c := &socket{Conn: conn, left: 1}
	if s.Addr.Addr().Unmap().IsLoopback() {
		c.left = socketQueries
		time.AfterFunc(socketLife, func() { t.retire(s, c) })
	}
	return c
}

// keep makes a socket idle, or closes it.
func (t *transport) keep(s Server, c *socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.left--; c.left > 0 && t.idle != nil {
		t.idle[s] = append(t.idle[s], c)
	} else {
		_ = c.Close()
	}
}

// retire ends the use of a socket when its query has ended.
func (t *transport) retire(s Server, c *socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.left = 1
	if i := slices.Index(t.idle[s], c); i >= 0 {
		t.idle[s] = slices.Delete(t.idle[s], i, i+1)
		_ = c.Close()
	}
}
