package stub

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	// idleLink is how long a connection stays open without an answer (RFC 7766 section 6.2.3).
	idleLink = 10 * time.Second
	// dialTimeout bounds the opening of a connection, which continues after the query that needed it has been given up.
	dialTimeout = 5 * time.Second
	// maxDatagram is the largest answer that is read over UDP. Queries offer 1,232 octets; if a server exceeds even
	// maxDatagram, the query is sent again over TCP.
	maxDatagram = 4096
	// A UDP socket to a loopback address gets no more queries after socketQueries queries, whose answers fit into its
	// receive buffer, or socketLife after it was opened.
	socketQueries = 64
	socketLife    = 10 * time.Second
	// oneMore is how long a query still waits for a better datagram after one that fits it but cannot be used.
	oneMore = 200 * time.Millisecond
	// After stallTime without a message, a TCP connection on which queries wait gets no more of them, unless the server
	// has maxStreams connections already.
	stallTime = 500 * time.Millisecond
)

var (
	// errLost is returned for a query whose connection was closed before its answer came.
	errLost = errors.New("the connection was closed")
	// errStrays is joined to a timeout if messages for the query arrived before it, but none that fits.
	errStrays = errors.New("only messages that do not answer the query came")
)

// link is a connection to a server, over UDP, TCP or TLS. Its queries wait concurrently, and the answers come in any
// order (RFC 7766 section 6.2.1.1, RFC 7858 section 3.4).
type link struct {
	route
	ready chan struct{} // closed when conn or failed is set

	writing sync.Mutex // guards writes to conn
	writeBy time.Time  // the write deadline

	mu       sync.Mutex
	conn     *miekg.Conn
	failed   error               // why the connection can no longer be used
	left     int                 // how many more queries it may get
	until    time.Time           // when it stops getting queries; zero: no limit
	waiting  map[uint16]*pending // by ID
	messages int                 // how many have arrived
	progress time.Time           // when a message last arrived, or the only waiting query was sent
}

// pending is a query that waits for its answer. The mutex of the link guards it until done is closed.
type pending struct {
	question miekg.Question
	id       uint16
	sent     time.Time
	until    time.Time     // when it ends without an answer
	timer    *time.Timer   // runs out then, or earlier with a spare answer
	before   int           // messages that had arrived on the connection when it began to wait
	done     chan struct{} // closed when answer or err is final
	answer   *miekg.Msg
	err      error
	spare    bool // answer or err count if nothing better arrives
	strays   bool // messages that do not fit arrived
}

func newPending(q miekg.Question, until time.Time) *pending {
	now := time.Now()
	return &pending{
		question: q, sent: now, until: until, timer: time.NewTimer(until.Sub(now)), done: make(chan struct{}),
	}
}

// run makes the connection and reads from it until it is closed. The read deadline may be early by an eighth: a new one
// for each message would cost more than the reading.
func (c *link) run(config *tls.Config) {
	conn, err := c.dial(config)
	c.mu.Lock()
	closed := c.failed != nil // before it was open
	if c.conn, c.progress = conn, time.Now(); err != nil {
		c.end(err)
	} else if closed {
		_ = conn.Close()
	}
	c.mu.Unlock()
	close(c.ready)
	if closed || err != nil {
		return
	}
	size := miekg.MaxMsgSize
	if c.udp {
		size = maxDatagram + 1
	}
	buffer := make([]byte, size)
	for readBy := (time.Time{}); ; {
		if by := time.Now().Add(idleLink); by.Sub(readBy) > idleLink/8 {
			readBy = by
			_ = conn.SetReadDeadline(by)
		}
		n, err := conn.Read(buffer)
		switch {
		case err == nil:
			c.deliver(buffer[:n])
		case c.udp && timedOut(err):
			c.retire()
		default:
			c.lose(err)
			return
		}
	}
}

func (r route) dial(config *tls.Config) (*miekg.Conn, error) {
	client := miekg.Client{Net: "tcp", Dialer: &net.Dialer{Timeout: dialTimeout}}
	switch {
	case r.udp:
		client.Net = "udp"
	case r.TLSName != "":
		client.Net, client.TLSConfig = "tcp-tls", config.Clone()
		client.TLSConfig.ServerName = r.TLSName
	}
	return client.Dial(r.Addr.String())
}

// deliver hands a message to the query that waits for its ID, if there is one. The query keeps the ID until it ends:
// the message may be a late answer to an earlier query that had the ID, which is ignored.
func (c *link) deliver(octets []byte) {
	if len(octets) < 2 {
		return
	}
	m, err := parse(octets)
	if c.udp && len(octets) > maxDatagram {
		m.Truncated = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages++
	c.progress = time.Now()
	p := c.waiting[binary.BigEndian.Uint16(octets)]
	if p == nil {
		return
	}
	fits, bare := matches(m, p.question)
	bare = bare && err == nil
	whole := fits && (err == nil || m.Truncated)
	odd := len(m.Question) != 1
	if err = nil; !whole && !bare {
		m, err = nil, errMalformed
	}
	switch {
	case whole, !c.udp && (fits || bare || odd):
		c.finish(p, m, err)
	case !c.udp, !fits && !bare:
		p.strays = true
	case !p.spare:
		// It cannot be used. A forger who has guessed ID and port of a UDP query must not gain anything by sending
		// garbage first, so the query waits a little longer for a better datagram.
		p.answer, p.err, p.spare = m, err, true
		p.timer.Reset(min(oneMore, time.Until(p.until)))
	}
}

// ask sends a query that was added and waits for its answer. The error wraps errLost if the connection was closed
// before the answer came.
func (c *link) ask(ctx context.Context, p *pending, octets []byte) (*miekg.Msg, error) {
	defer p.timer.Stop()
	for ready := c.ready; ; {
		select {
		case <-ready:
			c.write(octets, p)
			ready = nil
		case <-p.done:
			return p.answer, p.err
		case <-p.timer.C:
			return c.expire(p, context.DeadlineExceeded)
		case <-ctx.Done():
			return c.expire(p, ctx.Err())
		}
	}
}

// expire ends a query that has no answer. If nothing has arrived since it was sent, a TCP connection may be dead, and
// later queries use a new one.
func (c *link) expire(p *pending, err error) (*miekg.Msg, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.strays {
		err = fmt.Errorf("%w: %w", errStrays, err)
	}
	c.finish(p, nil, err)
	if !c.udp && c.conn != nil && c.messages == p.before {
		c.end(errLost)
	}
	return p.answer, p.err
}

// finish ends a query with a message or an error, or with a spare one that it already has. A connection that gets no
// more queries is closed with the last one. c.mu is held.
func (c *link) finish(p *pending, answer *miekg.Msg, err error) {
	if c.waiting[p.id] != p {
		return
	}
	if answer != nil || !p.spare {
		p.answer, p.err = answer, err
	}
	close(p.done)
	delete(c.waiting, p.id)
	if len(c.waiting) == 0 && c.spent() {
		c.end(errLost)
	}
}

// add gives a query an ID that no other query on the connection has. The query ends if the connection is closed.
func (c *link) add(p *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.progress = p.sent
	}
	for p.id = miekg.Id(); p.id == 0 || c.waiting[p.id] != nil; {
		p.id = miekg.Id()
	}
	c.left--
	c.waiting[p.id], p.before = p, c.messages
	if c.failed != nil {
		c.finish(p, nil, c.failed)
	}
}

// write sends a query. After an error the connection is closed, and the queries that wait on it end: a part of the
// query may have been sent, so nothing else can follow. A datagram that could not be sent in time concerns no other
// query. A write deadline that leaves the query at least half of its time stays.
func (c *link) write(octets []byte, p *pending) {
	if c.conn == nil {
		return // it could not be opened
	}
	binary.BigEndian.PutUint16(octets, p.id)
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.writeBy.After(p.until) || c.writeBy.Sub(p.sent) < p.until.Sub(p.sent)/2 {
		c.writeBy = p.until
		_ = c.conn.SetWriteDeadline(p.until) // an error is that of Write
	}
	if _, err := c.conn.Write(octets); err != nil && (!c.udp || !timedOut(err)) {
		c.lose(err)
	}
}

// lose closes the connection after an error.
func (c *link) lose(err error) {
	if c.udp {
		err = fmt.Errorf("%w: %w", errLost, err)
	} else {
		err = errLost
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
}

// end closes the connection; c.mu is held.
func (c *link) end(err error) {
	if c.failed != nil {
		return
	}
	c.failed = err
	if c.conn != nil {
		_ = c.conn.Close()
	}
	for _, p := range c.waiting {
		c.finish(p, nil, err)
	}
}

// retire closes the connection when no query waits on it any more.
func (c *link) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left = 0; len(c.waiting) == 0 {
		c.end(errLost)
	}
}

// spent reports whether the connection may get no more queries; c.mu is held.
func (c *link) spent() bool {
	const most = 1 << 15 // queries that wait, so that half of the IDs are free
	return c.left <= 0 || len(c.waiting) >= most || !c.until.IsZero() && time.Now().After(c.until)
}

// over reports whether the connection gets no more queries.
func (c *link) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil || c.spent()
}

// free reports whether another query should use the connection. It should not if queries wait on an open TCP connection
// and nothing has arrived for stallTime.
func (c *link) free() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.udp || c.conn == nil || len(c.waiting) == 0 || time.Since(c.progress) <= stallTime
}

// useless reports whether the connection has brought nothing.
func (c *link) useless() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages == 0
}
