package stub

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
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
	errIdle = errors.New("idle")
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
	conn     net.Conn
	failed   error               // why the connection can no longer be used
	left     int                 // how many more queries it may get
	until    time.Time           // when it stops getting queries; zero: no limit
	users    int                 // queries that have not ended
	waiting  map[uint16]*pending // by ID
	answers  atomic.Int64
	received time.Time // when a message last arrived
	progress time.Time // when a message last arrived, or the only waiting query was sent
	timer    *time.Timer
	alarm    time.Time // when the timer runs late; zero: it is not set
}

// pending is a query that waits for its answer. The mutex of the link guards it until done is closed.
type pending struct {
	question miekg.Question
	id       uint16
	sent     time.Time
	until    time.Time     // when it ends without an answer
	done     chan struct{} // closed when answer or err is final
	answer   *miekg.Msg
	err      error
	final    bool
	spare    bool // answer or err count if nothing better arrives
	strays   bool // messages that do not fit arrived
}

// finish ends a query with a message or an error, or with a spare one that it already has; c.mu is held.
func (c *link) finish(p *pending, answer *miekg.Msg, err error) {
	switch {
	case p.final:
		return
	case answer != nil || !p.spare:
		p.answer, p.err = answer, err
	}
	p.final = true
	close(p.done)
	delete(c.waiting, p.id)
}

// run makes the connection and reads from it until it is closed. The read deadline may be early by an eighth: a new one
// for each message would cost more than the reading.
func (c *link) run(config *tls.Config) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	conn, err := c.dial(ctx, config)
	cancel()
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
	read := readMessage
	if c.udp {
		read = datagrams()
	}
	for readBy := (time.Time{}); ; {
		if by := time.Now().Add(idleLink); by.Sub(readBy) > idleLink/8 {
			readBy = by
			_ = conn.SetReadDeadline(by)
		}
		octets, err := read(conn)
		switch {
		case err == nil:
			c.deliver(octets)
		case errors.Is(err, errIdle):
			c.retire()
		default:
			c.lose(err)
			return
		}
	}
}

func (r route) dial(ctx context.Context, config *tls.Config) (net.Conn, error) {
	var dialer net.Dialer
	network := "tcp"
	if r.udp {
		network = "udp"
	}
	conn, err := dialer.DialContext(ctx, network, r.Addr.String())
	if err != nil || r.udp || r.TLSName == "" {
		return conn, err
	}
	config = config.Clone()
	config.ServerName = r.TLSName
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

// readMessage reads a message with its length in front (RFC 1035 section 4.2.2). The error is errIdle if nothing
// arrived before the deadline.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if n, err := io.ReadFull(r, length[:]); err != nil {
		if n == 0 && timedOut(err) {
			err = errIdle
		}
		return nil, err
	}
	octets := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, octets)
	return octets, err
}

// datagrams is readMessage for UDP. The next call overwrites the message.
func datagrams() func(io.Reader) ([]byte, error) {
	var buffer [maxDatagram + 1]byte
	return func(r io.Reader) ([]byte, error) {
		n, err := r.Read(buffer[:])
		if err != nil && timedOut(err) {
			err = errIdle
		}
		return buffer[:n], err
	}
}

// deliver hands a message to the query that waits for its ID, if there is one. The query keeps the ID until it ends:
// the message may be a late answer to an earlier query that had the ID, which is ignored.
func (c *link) deliver(octets []byte) {
	if len(octets) < 2 {
		return
	}
	m, err := parse(octets)
	if m != nil && c.udp && len(octets) > maxDatagram {
		m.Truncated = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = time.Now()
	c.progress = c.received
	p := c.waiting[binary.BigEndian.Uint16(octets)]
	if p == nil {
		return
	}
	c.answers.Add(1)
	fits, bare := matches(m, p.question), err == nil && bareError(m)
	whole := fits && (err == nil || m.Truncated)
	odd := m == nil || len(m.Question) != 1
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
		if last := time.Now().Add(oneMore); last.Before(p.until) {
			p.until = last
			c.wake(last)
		}
	}
}

// ask sends a query and waits for its answer. The error wraps errLost if the connection was closed before the answer
// came.
func (c *link) ask(ctx context.Context, q miekg.Question, until time.Time) (*miekg.Msg, error) {
	defer c.release()
	octets, err := pack(q)
	if err != nil {
		return nil, err
	}
	p := &pending{question: q, sent: time.Now(), until: until, done: make(chan struct{})}
	if err := c.register(p); err != nil {
		return nil, err
	}
	select {
	case <-c.ready:
		c.write(octets, p.id, p.sent, until)
	case <-p.done:
	case <-ctx.Done():
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.expire(p, ctx.Err())
	}
	return p.answer, p.err
}

// expire ends a query that has no answer. If nothing has arrived since it was sent, a TCP connection may be dead, and
// later queries use a new one. c.mu is held.
func (c *link) expire(p *pending, err error) {
	if p.strays {
		err = fmt.Errorf("%w: %w", errStrays, err)
	}
	c.finish(p, nil, err)
	if !c.udp && c.conn != nil && c.received.Before(p.sent) {
		c.end(errLost)
	}
}

// wake makes late run then. All queries of a connection share one timer. c.mu is held.
func (c *link) wake(then time.Time) {
	if c.alarm.IsZero() || then.Before(c.alarm) {
		c.alarm = then
		c.timer.Reset(time.Until(then))
	}
}

// late ends the queries whose time is over.
func (c *link) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = time.Time{}
	now := time.Now()
	for _, p := range c.waiting {
		if p.until.After(now) {
			c.wake(p.until)
		} else {
			c.expire(p, context.DeadlineExceeded)
		}
	}
}

// register gives a query an ID that no other query on the connection has.
func (c *link) register(p *pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const most = 1 << 15
	switch {
	case c.failed != nil:
		return c.failed
	case len(c.waiting) >= most:
		return errors.New("too many queries on one connection")
	case len(c.waiting) == 0:
		c.progress = p.sent
	}
	for c.waiting[p.id] != nil || p.id == 0 {
		p.id = miekg.Id()
	}
	c.waiting[p.id] = p
	c.wake(p.until)
	return nil
}

// write sends a query. After an error the connection is closed, and the queries that wait on it end: a part of the
// query may have been sent, so nothing else can follow. A datagram that could not be sent in time concerns no other
// query. A write deadline that leaves the query at least half of its time stays.
func (c *link) write(octets []byte, id uint16, sent, until time.Time) {
	if c.conn == nil {
		return // it could not be opened
	}
	binary.BigEndian.PutUint16(octets, id)
	if !c.udp {
		octets = append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(octets)), uint16(len(octets))), octets...)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.writeBy.After(until) || c.writeBy.Sub(sent) < until.Sub(sent)/2 {
		c.writeBy = until
		_ = c.conn.SetWriteDeadline(until) // an error is that of Write
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
	c.timer.Stop()
	if c.conn != nil {
		_ = c.conn.Close()
	}
	for _, p := range c.waiting {
		c.finish(p, nil, err)
	}
}

// use makes one more query a user of the connection.
func (c *link) use() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	c.users++
}

// release ends what use began. A connection that gets no more queries is closed with the last one.
func (c *link) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 && c.spent() {
		c.end(errLost)
	}
}

// retire closes the connection when no query uses it any more.
func (c *link) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left = 0; c.users == 0 {
		c.end(errLost)
	}
}

// spent reports whether the connection may get no more queries; c.mu is held.
func (c *link) spent() bool {
	return c.left <= 0 || !c.until.IsZero() && time.Now().After(c.until)
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
