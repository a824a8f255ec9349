package socketmap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// The states of a connection, beside being idle: that is a positive number, twice the time in
// nanoseconds since when, plus one where a part of a request has arrived.
const (
	working int64 = 0  // the handler runs, or a reply is being written
	ended   int64 = -1 // closed by the server; nothing more is served
)

const (
	minRead    = 512      // room for a read
	keepBuffer = 16 << 10 // larger buffers are not kept by an idle connection
)

// lastLook is how long a connection that is shut down is still looked at: a request may be under way.
const lastLook = 10 * time.Millisecond

// conn is one connection, served by one goroutine.
type conn struct {
	server *Server
	net    net.Conn
	// state is written by the connection's goroutine, and by Server.evict, which may end an idle one.
	state atomic.Int64

	in        []byte // what has been read and not been consumed
	out       []byte
	since     time.Time // the connection is idle since then
	idleBy    time.Time // the read deadline while idle; zero: to be set anew
	requestBy time.Time // the read deadline of the request that has begun to arrive
	writeBy   time.Time // the write deadline
	looked    bool      // the last look is over
}

func (c *conn) serve() {
	defer func() {
		_ = c.net.Close()
		c.server.mu.Lock()
		delete(c.server.conns, c)
		c.server.mu.Unlock()
	}()
	for {
		req, ok := c.receive()
		if !ok || !c.send(c.server.answer(req)) {
			return
		}
	}
}

// rest marks the connection as idle since now; a part of the next request may have come with the last one.
func (c *conn) rest(now time.Time) {
	c.since = now
	idle := now.UnixNano() << 1
	if len(c.in) > 0 {
		idle |= 1
	}
	c.state.Store(idle)
}

// pending says whether a request waits in the socket that the connection's goroutine has not come to read. The end of the
// connection is not pending: nobody waits for an answer there.
func (c *conn) pending() bool {
	socket, ok := c.net.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var one [1]byte
	err = raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // an error leaves nothing to be read
	})
	return err == nil && n > 0
}

// become moves an idle connection to another state. It returns false when the server has ended it.
func (c *conn) become(state func(idle int64) int64) bool {
	idle := c.state.Load()
	return idle > working && c.state.CompareAndSwap(idle, state(idle))
}

// wake makes a connection that waits for a request notice that the server is closing.
func (c *conn) wake() {
	if at := c.state.Load(); at > working && at&1 == 0 {
		_ = c.net.SetReadDeadline(time.Unix(1, 0))
	}
}

// receive waits for a whole request. It returns false when the connection is to be closed.
func (c *conn) receive() (Request, bool) {
	begun := false
	for {
		size, err := measure(c.in, MaxQuery)
		if err != nil {
			c.server.stats.malformed.Add(1)
			return Request{}, false
		}
		switch {
		case size > 0 && len(c.in) >= size:
			return c.take(size)
		case len(c.in) == 0:
			if !c.expect() {
				return Request{}, false
			}
		case !begun:
			if begun = c.begin(); !begun {
				return Request{}, false
			}
		}
		if !c.fill(size) {
			return Request{}, false
		}
	}
}

// take consumes the whole request of that size.
func (c *conn) take(size int) (Request, bool) {
	payload, err := payloadOf(c.in[:size])
	space := bytes.IndexByte(payload, ' ')
	if err != nil || space < 0 {
		c.server.stats.malformed.Add(1)
		return Request{}, false
	}
	if !c.become(func(int64) int64 { return working }) {
		return Request{}, false
	}
	text := string(payload)
	c.in = c.in[:copy(c.in, c.in[size:])]
	if cap(c.in) > keepBuffer && len(c.in) == 0 {
		c.in = nil
	}
	return Request{Map: text[:space], Key: text[space+1:]}, true
}

// expect gives the client its time to begin a request. While requests come quickly the deadline is left as
// it is, so it may be early by the slack. It returns false when the server is closing and has had its last look: a
// client that asks and asks must not keep it.
func (c *conn) expect() bool {
	limits := c.server.limit()
	by := c.since.Add(limits.IdleTimeout)
	if early := by.Sub(c.idleBy); early < 0 || early > min(time.Second, limits.IdleTimeout/16) {
		c.idleBy = by
		_ = c.net.SetReadDeadline(by)
	}
	if !c.server.isClosing() { // after the line above: wake may come before it
		return true
	}
	if c.looked {
		return false
	}
	c.looked = true
	_ = c.net.SetReadDeadline(time.Now().Add(lastLook))
	return true
}

// begin gives the client its time for the rest of a request. It returns false when the server has
// ended the connection.
func (c *conn) begin() bool {
	c.idleBy = time.Time{}
	c.requestBy = time.Now().Add(c.server.limit().RequestTimeout)
	_ = c.net.SetReadDeadline(c.requestBy)
	return c.become(func(idle int64) int64 { return idle | 1 })
}

// fill reads more of a request, of which the whole has size bytes where that is known. It returns false
// when the connection is to be closed, and counts why.
func (c *conn) fill(size int) bool {
	if want := max(size, len(c.in)+minRead); cap(c.in) < want {
		c.in = append(make([]byte, 0, want), c.in...)
	}
	n, err := c.net.Read(c.in[len(c.in):cap(c.in)])
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.server.isClosing() && (len(c.in) > 0 || !c.looked) {
		// Woken up for shutdown. A request that has begun keeps its time; otherwise one last look,
		// so that a request that is under way is answered.
		by := c.requestBy
		if len(c.in) == 0 {
			c.looked = true
			by = time.Now().Add(lastLook)
		}
		_ = c.net.SetReadDeadline(by)
		n, err = c.net.Read(c.in[len(c.in):cap(c.in)])
	}
	c.in = c.in[:len(c.in)+n]
	if n > 0 {
		return true
	}
	switch late := errors.Is(err, os.ErrDeadlineExceeded); {
	case late && len(c.in) > 0:
		c.server.stats.stalled.Add(1)
	case late && !c.server.isClosing():
		c.server.stats.idle.Add(1)
	case errors.Is(err, io.EOF) && len(c.in) > 0:
		c.server.stats.malformed.Add(1)
	}
	return false
}

// send writes a reply. It returns false when the connection is to be closed.
func (c *conn) send(r Reply) bool {
	// The length goes in front of the payload, into room that is kept for it.
	const room = len("100000:")
	c.out = r.appendTo(append(c.out[:0], make([]byte, room)...))
	var digits [room]byte
	head := append(strconv.AppendInt(digits[:0], int64(len(c.out)-room), 10), ':')
	c.out = append(c.out, ',')
	wire := c.out[room-len(head):]
	copy(wire, head)

	now := time.Now() // the one look at the clock that a request costs
	if by := now.Add(c.server.limit().WriteTimeout); by.Sub(c.writeBy) > c.server.limit().WriteTimeout/8 {
		c.writeBy = by
		_ = c.net.SetWriteDeadline(by)
	}
	_, err := c.net.Write(wire)
	if err != nil {
		c.server.stats.writeErrors.Add(1)
		return false
	}
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
	c.server.stats.replies[r.Status].Add(1)
	c.rest(now)
	return true
}

// answer calls the handler; a panic becomes TEMP.
func (s *Server) answer(req Request) (reply Reply) {
	defer func() {
		if p := recover(); p != nil {
			s.stats.panics.Add(1)
			s.logger().Error("panic in a handler: please report this", "map", req.Map, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			reply = Temp("internal error")
		}
	}()
	return s.Handler.ServeSocketmap(s.ctx, req)
}
