package socketmap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

const (
	working    int64 = 0   // value of conn.idleSince while a request is being answered
	evicted    int64 = -1  // value of conn.idleSince after the server has closed the connection
	bufferSize       = 512 // most requests and replies are shorter; longer ones use memory only while they are handled
	// lastRead is how long a request may still begin to arrive after Shutdown: one may be in transit.
	lastRead = 10 * time.Millisecond
)

// conn is one connection, served by one goroutine. It goes from idle to working with each request, and back to idle
// with the reply. If only a part of the request arrives, it is partial in between:
//
//	idle      read deadline IdleTimeout; shortened to lastRead by Shutdown; can be evicted
//	partial   read deadline RequestTimeout; not shortened by Shutdown; can be evicted
//	working   no read deadline; cannot be evicted
type conn struct {
	server   *Server
	net      net.Conn
	listener string
	// idleSince is when the last reply was written, or working or evicted. The goroutine of the connection writes it;
	// the server changes a time to evicted. All times are on the server's clock.
	idleSince atomic.Int64

	in            *bufio.Reader
	payload, wire []byte        // buffers for a reply
	partial       bool          // a part of a request has arrived
	requestBy     time.Duration // read deadline for the rest of that request; 0: not set
	lastReadUsed  bool          // the one read that is allowed after Shutdown has begun
}

// serve answers requests until the connection ends.
func (c *conn) serve() {
	c.in = bufio.NewReaderSize(c, bufferSize)
	defer func() {
		_ = c.net.Close()
		c.server.mu.Lock()
		delete(c.server.conns, c)
		c.server.mu.Unlock()
	}()
	for {
		req, err := c.read()
		if err != nil {
			c.ended(err)
			return
		}
		if idle := c.idleSince.Load(); idle < 0 || !c.idleSince.CompareAndSwap(idle, working) {
			return // evicted
		}
		if !c.write(c.answer(req)) {
			return
		}
	}
}

// read returns the next request.
func (c *conn) read() (Request, error) {
	c.partial = c.in.Buffered() > 0
	if !c.partial {
		idleEnd := time.Duration(c.idleSince.Load()) + c.server.limits.Load().IdleTimeout
		if err := c.setReadDeadline(idleEnd, c.server.clock()+lastRead); err != nil {
			return Request{}, err
		}
	}
	text, err := ReadNetstring(c.in, MaxQuery)
	if err != nil {
		return Request{}, err
	}
	c.requestBy = 0
	name, key, ok := strings.Cut(text, " ")
	if !ok {
		return Request{}, &ProtocolError{"request without a space between map name and key"}
	}
	return Request{Map: name, Key: key, RemoteAddr: c.net.RemoteAddr()}, nil
}

// setReadDeadline sets the deadline of a read. After Shutdown has begun it is atShutdown, and only one read is allowed,
// because a client that always has another request must not delay Shutdown; after that the error is ErrServerClosed.
func (c *conn) setReadDeadline(by, atShutdown time.Duration) error {
	err := c.net.SetReadDeadline(c.server.at(by))
	if !c.server.closing.Load() { // checked last: Shutdown sets it before it sets a deadline
		return err
	}
	if c.lastReadUsed {
		return ErrServerClosed
	}
	c.lastReadUsed = true
	return c.net.SetReadDeadline(c.server.at(atShutdown))
}

// Read reads for c.in. A partial request keeps its deadline when Shutdown sets an earlier one.
func (c *conn) Read(b []byte) (int, error) {
	if c.partial && c.requestBy == 0 {
		c.requestBy = c.server.clock() + c.server.limits.Load().RequestTimeout
		if err := c.setReadDeadline(c.requestBy, c.requestBy); err != nil {
			return 0, err
		}
	}
	n, err := c.net.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) && c.server.clock() < c.requestBy {
		_ = c.net.SetReadDeadline(c.server.at(c.requestBy))
		n, err = c.net.Read(b)
	}
	c.partial = true // if nothing has arrived, the connection ends
	return n, err
}

// write sends a reply. It reports whether the connection can still be used.
func (c *conn) write(r Reply) bool {
	c.payload = r.appendTo(c.payload[:0])
	c.wire = AppendNetstring(c.wire[:0], c.payload)
	s := c.server
	now := s.clock()
	timeout := s.limits.Load().WriteTimeout
	_ = c.net.SetWriteDeadline(s.at(now + timeout))
	if _, err := c.net.Write(c.wire); err != nil {
		s.event(&s.stats.WriteErrors)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.event(&s.stats.Unread).Warn("client does not read its replies; connection closed", "timeout", timeout)
		}
		return false
	}
	if cap(c.wire) > bufferSize {
		c.payload, c.wire = nil, nil
	}
	c.idleSince.Store(int64(now))
	return true
}

// ended counts and logs the reason why no further request could be read.
func (c *conn) ended(err error) {
	s := c.server
	incomplete := c.requestBy > 0
	if incomplete && errors.Is(err, io.ErrUnexpectedEOF) {
		err = &ProtocolError{"connection closed in the middle of a request"}
	}
	var malformed *ProtocolError
	switch {
	case errors.As(err, &malformed):
		c.event(&s.stats.Malformed).Warn("malformed request; connection closed", "reason", malformed.Reason)
	case !errors.Is(err, os.ErrDeadlineExceeded): // the client has left, or the server has closed the connection
	case incomplete:
		c.event(&s.stats.Stalled).Warn("request not complete in time; connection closed", "timeout",
			s.limits.Load().RequestTimeout)
	case !s.closing.Load():
		s.event(&s.stats.Idle)
	}
}

// event is Server.event with the names of the listener and of the client; clients of a unix socket have none.
func (c *conn) event(counter *uint64) *slog.Logger {
	log := c.server.event(counter).With("listener", c.listener)
	if client := c.net.RemoteAddr(); client.Network() != "unix" {
		log = log.With("client", client.String())
	}
	return log
}

// answer calls the handler. A panic becomes TEMP.
func (c *conn) answer(req Request) (reply Reply) {
	defer func() {
		if p := recover(); p != nil {
			log := c.event(&c.server.stats.Panics).With("stack", string(debug.Stack()))
			log.Error("handler panicked", "map", req.Map, "err", fmt.Sprint(p))
			reply = Temp("internal error")
		}
	}()
	return c.server.Handler.ServeSocketmap(c.server.ctx, req)
}
