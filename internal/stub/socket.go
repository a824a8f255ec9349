package stub

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	// maxDatagram is the largest answer that is read over UDP. Queries offer 1,232 octets; if a server exceeds even
	// maxDatagram, the query is sent again over TCP.
	maxDatagram = 4096
	// oneMore is how long a query still waits for a better datagram after one that answers it but cannot be used.
	oneMore = 200 * time.Millisecond
	// A socket to a loopback address is used for socketQueries queries, and not longer than socketLife.
	socketQueries = 512
	socketLife    = 10 * time.Second
)

// socket is a UDP socket that is connected to a server. It is used for one query at a time.
type socket struct {
	net.Conn
	left   int                   // queries, the present one included; transport.mu guards it
	buffer [maxDatagram + 1]byte // a longer datagram fills it
}

// overUDP sends a query over an idle socket to a loopback address, or over a new one: a query to any other address has
// its own port (RFC 5452 section 9.2). After an error of an idle socket, which may be that of an earlier query, the
// query is sent again.
func (t *transport) overUDP(ctx context.Context, s Server, q miekg.Question, until time.Time) (*miekg.Msg, error) {
	for {
		c, used, err := t.socket(ctx, s)
		if err != nil {
			return nil, err
		}
		_ = c.SetDeadline(until)
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		answer, err := c.ask(q, until)
		if !stop() {
			err = ctx.Err()
		}
		if err == nil {
			t.keep(s, c)
			return answer, nil
		}
		_ = c.Close() // the answer may still come
		if !used || ctx.Err() != nil || timedOut(err) || errors.Is(err, errMalformed) {
			return nil, err
		}
	}
}

// socket returns the idle socket that was used last, or a new one.
func (t *transport) socket(ctx context.Context, s Server) (c *socket, used bool, err error) {
	t.mu.Lock()
	idle := t.idle[s]
	if used = len(idle) > 0; used {
		c, t.idle[s] = idle[len(idle)-1], idle[:len(idle)-1]
	}
	t.mu.Unlock()
	if used {
		return c, true, nil
	}
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
	if c.left--; c.left > 0 && !t.closed {
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

// ask sends a query and waits for its answer until the read deadline. A forger who has guessed ID and port must not
// gain anything by sending garbage first, so after an answer that cannot be used it waits a little longer for another.
func (c *socket) ask(q miekg.Question, until time.Time) (*miekg.Msg, error) {
	query, err := pack(c.buffer[:], q)
	if err != nil {
		return nil, err
	}
	id := miekg.Id()
	binary.BigEndian.PutUint16(query, id)
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	var unusable *miekg.Msg
	outcome := context.DeadlineExceeded // nil or errMalformed with an unusable answer
	for {
		n, err := c.Read(c.buffer[:])
		switch {
		case timedOut(err):
			return unusable, outcome
		case err != nil:
			return nil, err
		case n > maxDatagram:
			c.buffer[2] |= 2 // TC
		}
		answer, err := reply(c.buffer[:n], id, q)
		switch {
		case err == nil && len(answer.Question) > 0:
			return answer, nil
		case !timedOut(outcome): // another unusable one
		case errors.Is(err, errStray):
			outcome = err
		default:
			unusable, outcome = answer, err
			_ = c.SetReadDeadline(time.Now().Add(min(oneMore, time.Until(until))))
		}
	}
}
