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

// The states of a connection, beside being idle: that is a positive number, twice the time since when on the server's
// clock, plus one where a part of a request has arrived.
const (
	working int64 = 0  // the handler runs, or a reply is being written
	ended   int64 = -1 // closed by the server; nothing more is served
)

const (
	minRead    = 512      // room for a read
	keepBuffer = 16 << 10 // larger buffers are not kept by an idle connection
)

const (
	// lastLook is how long a connection that is shut down is still looked at: a request may be under way.
	lastLook = 10 * time.Millisecond
	// unread is how long a connection is taken to be empty that was not read to the end.
	unread = time.Second
)

// conn is one connection, served by one goroutine.
type conn struct {
	server   *Server
	net      net.Conn
	listener string // its address
	// state is written by the connection's goroutine, and by Server.evict, which may end an idle one.
	state atomic.Int64
	// replies are those counters of the server that this connection counts in.
	replies *replyCounters

	in     []byte // what has been read and not been consumed
	out    []byte
	size   int  // of the request that has begun to arrive; 0: not known
	served bool // a request was answered before
	empty  bool // the socket need not be read again before something arrives
	looked bool // the last look is over
	final  bool // a request has begun to arrive while the server was closing

	// Times on the server's clock.
	since     time.Duration // the connection is idle since then
	idleBy    time.Duration // the read deadline while idle; zero: to be set anew
	requestBy time.Duration // the read deadline of the request that has begun to arrive; zero: none has
	writeBy   time.Duration // the write deadline
}

// serve answers requests until the connection is to be closed.
func (c *conn) serve() {
	defer func() {
		_ = c.net.Close()
		c.server.mu.Lock()
		delete(c.server.conns, c)
		c.server.mu.Unlock()
	}()
	var raw syscall.RawConn
	switch socket := c.net.(type) { // not what is made of a socket: that may read in its own way
	case *net.TCPConn:
		raw, _ = socket.SyscallConn()
	case *net.UnixConn:
		raw, _ = socket.SyscallConn()
	}
	read := c.readAny
	if raw != nil {
		read = func() error { return c.readSocket(raw) }
	}
	for more := c.expect(); more; {
		more = c.goOn(read())
	}
}

// readAny reads and serves until the connection is to be closed, which is nil, or an error of reading.
func (c *conn) readAny() error {
	for {
		n, err := c.net.Read(c.room())
		if n == 0 && err != nil {
			return err
		}
		if !c.got(n) {
			return nil
		}
	}
}

// readSocket is readAny for a socket. net.Conn reads first and waits when there is nothing; here it is the other way
// round where it can be, because a client asks again only when it has its reply: of three system calls for a request that
// saves one. All of it is one read to net.Conn, handlers and all: its Close waits until that is over.
func (c *conn) readSocket(raw syscall.RawConn) (err error) {
	waited := raw.Read(func(fd uintptr) (over bool) {
		for {
			n, e := syscall.Read(int(fd), c.room())
			switch {
			case e == syscall.EINTR:
				continue
			case e == syscall.EAGAIN:
				return false
			case e != nil:
				err = e
				return true
			case n == 0:
				err = io.EOF
				return true
			case !c.got(n):
				return true
			case c.empty:
				return false
			}
		}
	})
	return errors.Join(err, waited)
}

// room returns room to read into.
func (c *conn) room() []byte {
	if want := max(c.size, len(c.in)+minRead); cap(c.in) < want {
		c.in = append(make([]byte, 0, want), c.in...)
	}
	return c.in[len(c.in):cap(c.in)]
}

// got takes n bytes that have been read into the room, and answers the requests that are whole now. It returns false when
// the connection is to be closed.
func (c *conn) got(n int) bool {
	full := n == cap(c.in)-len(c.in)
	c.in = c.in[:len(c.in)+n]
	before, answered := c.served, 0
	for ; ; answered++ {
		size, err := measure(c.in, MaxQuery)
		if err != nil {
			c.malformed("it is no netstring of at most " + strconv.Itoa(MaxQuery) + " bytes")
			return false
		}
		if c.size = size; size == 0 || len(c.in) < size {
			break
		}
		if req, ok := c.take(size); !ok || !c.send(c.server.answer(req)) {
			return false
		}
		c.served = true
	}
	switch {
	case len(c.in) == 0:
		// One request and nothing else has come, and not for the first time: most likely there is no more, not
		// even the end of the connection. If there is, goOn finds it.
		c.empty = before && answered == 1 && !full
		return c.expect()
	case c.requestBy == 0:
		return c.begin()
	}
	return true
}

// take consumes the whole request of that size.
func (c *conn) take(size int) (Request, bool) {
	payload, err := payloadOf(c.in[:size])
	space := bytes.IndexByte(payload, ' ')
	switch {
	case err != nil:
		c.malformed("no comma ends the netstring")
		return Request{}, false
	case space < 0:
		c.malformed("there is no space between a map and a key")
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
	c.requestBy = 0
	return Request{Map: text[:space], Key: text[space+1:]}, true
}

// expect gives the client its time to begin a request. While requests come quickly the deadline is left as
// it is, so it may be early by the slack. It returns false when the server is closing and has had its last look: a
// client that asks and asks must not keep it.
func (c *conn) expect() bool {
	patience := c.server.limit().IdleTimeout
	if c.empty {
		patience = min(patience, unread)
	}
	by := c.since + patience
	if early := by - c.idleBy; early < 0 || early > min(time.Second, patience/16) {
		c.idleBy = by
		c.readUntil(by)
	}
	if !c.server.isClosing() { // after the line above: wake may come before it
		return true
	}
	if c.looked {
		return false
	}
	c.looked, c.empty = true, false
	c.readUntil(c.server.clock() + lastLook)
	return true
}

// begin gives the client its time for the rest of a request. It returns false when the server has
// ended the connection, or is closing and has waited for such a rest before: a client that always sends the beginning of
// the next request must not keep it.
func (c *conn) begin() bool {
	if c.server.isClosing() {
		if c.final {
			return false
		}
		c.final = true
	}
	c.idleBy, c.empty = 0, false
	c.requestBy = c.server.clock() + c.server.limit().RequestTimeout
	c.readUntil(c.requestBy)
	return c.become(func(idle int64) int64 { return idle | 1 })
}

// goOn says whether the connection is to be read again after reading has ended with err, or without an error where the
// connection is to be closed. It counts why it is closed.
func (c *conn) goOn(err error) bool {
	now := c.server.clock()
	partial := len(c.in) > 0
	switch {
	case errors.Is(err, io.EOF) && partial:
		c.malformed("the connection ended in the middle of it")
		return false
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return false
	case partial && now < c.requestBy: // woken up for shutdown, but a request that has begun keeps its time
		c.readUntil(c.requestBy)
		return true
	case partial:
		c.stalled()
		return false
	case c.server.isClosing():
		// One last look, so that a request that is under way is answered.
		first := !c.looked
		c.looked, c.empty = true, false
		c.readUntil(now + lastLook)
		return first
	}
	c.empty, c.idleBy = false, 0
	if now < c.since+c.server.limit().IdleTimeout {
		return c.expect()
	}
	c.server.stats.idle.Add(1)
	return false
}

// readUntil sets the deadline for reading.
func (c *conn) readUntil(by time.Duration) { _ = c.net.SetReadDeadline(c.server.started.Add(by)) }

// rest marks the connection as idle since now; a part of the next request may have come with the last one.
func (c *conn) rest(now time.Duration) {
	c.since = now
	idle := int64(now) << 1
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

// send writes a reply. It returns false when the connection is to be closed.
func (c *conn) send(r Reply) bool {
	if r.Status > StatusPerm {
		r = Temp("internal error: a status that there is not")
	}
	// The length goes in front of the payload, into room that is kept for it.
	const room = len("100000:")
	c.out = r.appendTo(append(c.out[:0], make([]byte, room)...))
	var digits [room]byte
	head := append(strconv.AppendInt(digits[:0], int64(len(c.out)-room), 10), ':')
	c.out = append(c.out, ',')
	wire := c.out[room-len(head):]
	copy(wire, head)

	now, patience := c.server.clock(), c.server.limit().WriteTimeout // the one look at the clock that a request costs
	if by := now + patience; by-c.writeBy > patience/8 {
		c.writeBy = by
		_ = c.net.SetWriteDeadline(c.server.started.Add(by))
	}
	err := net.ErrClosed
	if !c.server.closed.Load() { // by Close, whose closing of the connection waits for this
		_, err = c.net.Write(wire)
	}
	if err != nil {
		c.unwritten(err)
		return false
	}
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
	c.replies[r.Status].Add(1)
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
