package stub

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	// idleStream is how long a connection stays open without an answer (RFC 7766 section 6.2.3).
	idleStream = 10 * time.Second
	// dialTimeout bounds the opening of a connection, which continues after the query that needed it has been given up.
	dialTimeout = 5 * time.Second
	// maxUseless is how often a query is asked again after a connection that was lost without having answered anything.
	// A server that takes one query per connection may reset it while the answer is under way.
	maxUseless = 5
	// maxMessages is how many messages with the ID of a query are kept until the query reads them.
	maxMessages = 4
	// After stallTime without a message, a connection on which queries wait gets no more of them, unless the server has
	// maxStreams connections already.
	stallTime  = 500 * time.Millisecond
	maxStreams = 3
)

var (
	// errLost is returned for a query whose connection was closed before its answer came.
	errLost = errors.New("the connection was closed")
	errIdle = errors.New("idle")
)

// streams keeps connections to servers, over TCP or TLS: one for each server, and a few more if a server answers the
// queries of a connection one after the other and one of them stalls. Answers come in any order (RFC 7766 section 6.2.1.1,
// RFC 7858 section 3.4).
type streams struct {
	tls *tls.Config // without a server name; it remembers TLS sessions

	mu   sync.Mutex
	open map[Server][]*stream
}

// exchange asks over the connection to s, or a new one. A query whose connection is lost is asked again until ctx
// ends, but only a few times if no connection answers anything: an old connection, or a server that restarts, is not
// a failure.
func (p *streams) exchange(ctx context.Context, s Server, query *miekg.Msg) (*miekg.Msg, error) {
	for useless := 0; ; {
		c := p.get(s)
		answer, err := c.ask(ctx, query)
		if err == nil || ctx.Err() != nil || !lost(err) {
			return answer, err
		}
		if !c.useful() {
			if useless++; useless > maxUseless {
				return nil, err
			}
		}
	}
}

// lost reports whether err means that the other side closed the connection.
func lost(err error) bool {
	is := func(target error) bool { return errors.Is(err, target) }
	return slices.ContainsFunc([]error{errLost, syscall.ECONNRESET, syscall.EPIPE, io.EOF}, is)
}

// get returns an open connection to s, or one that is being made. It prefers one that does not stall.
func (p *streams) get(s Server) *stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := slices.DeleteFunc(p.open[s], (*stream).closed)
	i := slices.IndexFunc(open, func(c *stream) bool { return !c.stalls() })
	if i < 0 && len(open) < maxStreams {
		c := &stream{ready: make(chan struct{}), waiting: map[uint16]chan []byte{}, progress: time.Now()}
		i, open = len(open), append(open, c)
		go c.run(s, p.tls)
	}
	p.open[s] = open
	return open[max(i, 0)]
}

// stream is a connection over TCP or TLS.
type stream struct {
	ready chan struct{} // closed when conn or failed is set

	writing sync.Mutex // guards writes to conn

	mu       sync.Mutex
	conn     net.Conn
	failed   error                  // why the connection cannot be used any more
	waiting  map[uint16]chan []byte // by ID
	answers  int
	received time.Time // when a message last arrived
	progress time.Time // when a message last arrived, or a query was sent that is the only one
}

// run makes the connection and reads from it until it is closed.
func (c *stream) run(s Server, config *tls.Config) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	conn, err := dial(ctx, s, config)
	cancel()
	c.mu.Lock()
	c.conn, c.failed, c.received = conn, err, time.Now()
	c.mu.Unlock()
	close(c.ready)
	if err != nil {
		return
	}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleStream))
		octets, err := readMessage(conn)
		switch {
		case err == nil:
			c.deliver(octets)
		case errors.Is(err, errIdle) && c.busy():
		default:
			c.fail(errLost)
			return
		}
	}
}

func dial(ctx context.Context, s Server, config *tls.Config) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", s.Addr.String())
	if err != nil || s.TLSName == "" {
		return conn, err
	}
	config = config.Clone()
	config.ServerName = s.TLSName
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

// readMessage reads a message with its length in front (RFC 1035 section 4.2.2). The error is errIdle if nothing has
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

// deliver hands a message to the query that waits for its ID, if there is one. The query keeps the ID until it ends: the
// message may be a late answer to an earlier query that had the ID.
func (c *stream) deliver(octets []byte) {
	if len(octets) < 2 {
		return
	}
	id := binary.BigEndian.Uint16(octets)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = time.Now()
	c.progress = c.received
	if answer := c.waiting[id]; answer != nil {
		c.answers++
		select {
		case answer <- octets:
		default: // it has more than enough messages already
		}
	}
}

// ask sends a query and waits for its answer. The error is errLost if the connection was closed in between.
func (c *stream) ask(ctx context.Context, query *miekg.Msg) (*miekg.Msg, error) {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answer, sent := make(chan []byte, maxMessages), time.Now()
	id, err := c.register(answer)
	if err != nil {
		return nil, err
	}
	defer c.forget(id)
	query = query.Copy()
	query.Id = id
	if err := c.write(ctx, query); err != nil {
		return nil, err
	}
	for strays := false; ; {
		select {
		case octets, ok := <-answer:
			if !ok {
				return nil, errLost
			}
			m, err := parse(octets)
			switch {
			case m != nil && len(m.Question) == 1 && !matches(m, query):
				strays = true // a late answer to a query that was given up
				continue
			case err != nil || !matches(m, query) && !bareError(m, query):
				return nil, errMalformed
			}
			return m, nil
		case <-ctx.Done():
			c.suspect(sent)
			if strays {
				return nil, fmt.Errorf("%w: %w", errStrays, ctx.Err())
			}
			return nil, ctx.Err()
		}
	}
}

// register returns an ID that no other query on the connection has.
func (c *stream) register(answer chan []byte) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return 0, c.failed
	}
	const most = 1 << 15
	if len(c.waiting) >= most {
		return 0, errors.New("too many queries on one connection")
	}
	if len(c.waiting) == 0 {
		c.progress = time.Now()
	}
	for {
		if id := miekg.Id(); c.waiting[id] == nil {
			c.waiting[id] = answer
			return id, nil
		}
	}
}

func (c *stream) forget(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *stream) write(ctx context.Context, query *miekg.Msg) error {
	octets, err := query.Pack()
	if err != nil {
		return err
	}
	framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(octets)), uint16(len(octets))), octets...)
	c.writing.Lock()
	defer c.writing.Unlock()
	deadline, _ := ctx.Deadline()
	if err = c.conn.SetWriteDeadline(deadline); err == nil {
		_, err = c.conn.Write(framed)
	}
	if err != nil { // a part of the query may have been sent: nothing else can follow
		c.fail(errLost)
		return errLost
	}
	return nil
}

// suspect is called when a query that was sent at that time has no answer. If nothing else has arrived since, the
// connection may be dead, and later queries use a new one.
func (c *stream) suspect(sent time.Time) {
	c.mu.Lock()
	silent := c.received.Before(sent)
	c.mu.Unlock()
	if silent {
		c.fail(errLost)
	}
}

// fail closes the connection. Queries that wait on it return errLost.
func (c *stream) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return
	}
	c.failed = err
	_ = c.conn.Close()
	for _, answer := range c.waiting {
		close(answer)
	}
	clear(c.waiting)
}

func (c *stream) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil
}

// busy reports whether a query waits on the connection.
func (c *stream) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 0
}

// stalls reports whether queries wait on the connection and nothing has arrived for a while.
func (c *stream) stalls() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 0 && time.Since(c.progress) > stallTime
}

// useful reports whether the connection has answered a query.
func (c *stream) useful() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers > 0
}
