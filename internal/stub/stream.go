package stub

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dnsmsg"
)

const (
	// idleStream is how long a stream stays open without an answer (RFC 7766 section 6.2.3).
	idleStream = 10 * time.Second
	// dialTimeout bounds the opening of a stream, which continues after the query that needed it has been given up.
	dialTimeout = 5 * time.Second
	// writeTimeout bounds a write to a stream. A write that blocks for longer closes the stream.
	writeTimeout = time.Second
	// maxUseless is how often a query is sent again after a stream was lost without having answered anything. A server
	// that accepts one query per connection may reset it while the answer is in transit.
	maxUseless = 5
	maxStreams = 3 // per server
	// After stallTime without a message, a stream on which queries wait gets no further queries, unless the server
	// already has maxStreams streams.
	stallTime = 500 * time.Millisecond
)

// errLost is returned for a query whose stream was closed before its answer came.
var errLost = errors.New("the connection was closed")

// stream is a TCP or TLS connection to a server, which stays open for further queries. Many queries wait at the same
// time, and their answers come in any order (RFC 7766 section 6.2.1.1, RFC 7858 section 3.4).
//
// run opens the connection and reads from it. ask registers a query as pending, sends it when the connection is open,
// and waits: deliver, expire or end finishes it.
type stream struct {
	ready    chan struct{} // closed when it is open, or could not be opened
	messages atomic.Int64  // messages that have arrived
	writing  sync.Mutex    // guards writes: the next would extend the deadline of one that is blocked

	mu       sync.Mutex
	conn     *miekg.Conn
	err      error               // why it can no longer be used
	waiting  map[uint16]*pending // by ID
	progress time.Time           // when a message last arrived, or the only waiting query was sent
}

// pending is a query that waits for its answer; the mutex of the stream guards it. It keeps its ID even after a message
// that does not answer it, which may be a late answer to an earlier query.
type pending struct {
	question dnsmsg.Query
	id       uint16
	before   int64 // messages that had arrived when it was sent
	answer   *dnsmsg.Answer
	err      error         // dnsmsg.ErrStray while only messages have come that do not answer it
	done     chan struct{} // closed when it has ended, with answer or err
}

// overStream sends a query over a stream. If the stream is lost, which does not count as a failure of the server, the
// query is sent again until its time is over, but only a few times over streams that have answered nothing.
func (s *server) overStream(ctx context.Context, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
	query, err := q.Pack(make([]byte, dnsmsg.MaxQuery))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	useless := 0
	for {
		c := s.stream()
		answer, err := c.ask(ctx, q, query)
		if err == nil || !errors.Is(err, errLost) {
			return answer, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if c.messages.Load() == 0 {
			useless++
		}
		if useless > maxUseless {
			return nil, err
		}
	}
}

// stream returns a stream that is open or being opened. A server may answer the queries of a stream one after the
// other: if one of them stalls, further queries use another stream.
func (s *server) stream() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = slices.DeleteFunc(s.streams, (*stream).closed)
	if i := slices.IndexFunc(s.streams, (*stream).responsive); i >= 0 {
		return s.streams[i]
	}
	if len(s.streams) == maxStreams {
		return s.streams[0]
	}
	c := newStream()
	s.streams = append(s.streams, c)
	go c.run(s)
	return c
}

// close closes all connections. A query that waits on a stream is sent again over a new one.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		_ = c.Close()
	}
	for _, c := range s.streams {
		c.end(errLost)
	}
	s.closed, s.idle, s.streams = true, nil, nil
}

func newStream() *stream { return &stream{ready: make(chan struct{}), waiting: map[uint16]*pending{}} }

// run opens the stream and reads from it until it is closed.
func (c *stream) run(s *server) {
	conn, err := c.open(s)
	close(c.ready)
	if err != nil {
		c.end(err)
		return
	}
	buffer := make([]byte, miekg.MaxMsgSize)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleStream))
		n, err := conn.Read(buffer)
		if err != nil {
			c.end(errLost)
			return
		}
		c.deliver(buffer[:n])
	}
}

// open connects to the server. The error is errLost if the server closed the connection during the handshake.
func (c *stream) open(s *server) (*miekg.Conn, error) {
	client := miekg.Client{Net: "tcp", Dialer: &net.Dialer{Timeout: dialTimeout}, TLSConfig: s.tls}
	if s.TLSName != "" {
		client.Net = "tcp-tls"
	}
	conn, err := client.Dial(s.Addr.String())
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		err = errLost
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.progress = conn, time.Now()
	if c.err != nil && err == nil { // it was ended before it was open
		_ = conn.Close()
	}
	return conn, err
}

// ask sends a query and waits for its answer. The error is errLost if the stream was closed before the answer came.
func (c *stream) ask(ctx context.Context, q dnsmsg.Query, query []byte) (*dnsmsg.Answer, error) {
	p := &pending{question: q, done: make(chan struct{})}
	c.add(p)
	ready := c.ready
	for {
		select {
		case <-ready:
			binary.BigEndian.PutUint16(query, p.id)
			c.write(query)
			ready = nil // it is sent once
		case <-p.done:
			return p.answer, p.err
		case <-ctx.Done():
			return nil, c.expire(p, ctx.Err())
		}
	}
}

// add registers a query under an ID that no other query on the stream has. If the stream has ended, so has the query.
func (c *stream) add(p *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		p.err = c.err
		close(p.done)
		return
	}
	if len(c.waiting) == 0 {
		c.progress = time.Now()
	}
	p.id = miekg.Id()
	for c.waiting[p.id] != nil {
		p.id = miekg.Id()
	}
	p.before = c.messages.Load()
	c.waiting[p.id] = p
}

// write sends a query. After a timeout the stream is closed, because a part of the query may have been sent. Any other
// error is left to run, which gets it too, but only after the answers that have arrived.
func (c *stream) write(query []byte) {
	if c.conn == nil {
		return // it could not be opened
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.conn.Write(query)
	if timedOut(err) {
		c.end(errLost)
	}
}

// deliver hands a message to the query that waits for its ID, if there is one.
func (c *stream) deliver(octets []byte) {
	if len(octets) < 2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages.Add(1)
	c.progress = time.Now()
	p := c.waiting[binary.BigEndian.Uint16(octets)]
	if p == nil {
		return
	}
	p.answer, p.err = dnsmsg.Read(octets, p.id, p.question)
	if errors.Is(p.err, dnsmsg.ErrStray) {
		return
	}
	delete(c.waiting, p.id)
	close(p.done)
}

// expire finishes a query that has no answer, and returns its error: dnsmsg.ErrStray, or else err. If nothing has
// arrived since the query was sent, the stream may be dead, so it is closed: later queries use a new one.
func (c *stream) expire(p *pending, err error) error {
	c.mu.Lock()
	if c.waiting[p.id] == p {
		delete(c.waiting, p.id)
	}
	dead := c.conn != nil && c.messages.Load() == p.before
	c.mu.Unlock()
	if dead {
		c.end(errLost)
	}
	return cmp.Or(p.err, err)
}

// end closes the stream. The queries that wait on it end with the error. Close writes the last message of TLS, which
// blocks for seconds if the server does not read.
func (c *stream) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.conn != nil {
		go func() { _ = c.conn.Close() }()
	}
	for _, p := range c.waiting {
		p.err = err
		close(p.done)
	}
	clear(c.waiting)
}

// closed reports whether the stream can no longer be used.
func (c *stream) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// responsive reports whether the stream is still being opened, or no query waits on it, or a message came lately.
func (c *stream) responsive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn == nil || len(c.waiting) == 0 || time.Since(c.progress) <= stallTime
}
