package stub

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// Only sockets to loopback are used again: a query to any other address has a port of its own (RFC 5452 section 9.2).
func TestWhichSocketsAreUsedAgain(t *testing.T) {
	t.Parallel()
	for server, again := range map[string]bool{
		"127.0.0.1:53": true, "127.9.9.9:53": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true,
		"192.0.2.1:53": false, "10.0.0.1:53": false, "[2001:db8::1]:53": false, "[fe80::1]:53": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServers([]Server{{Addr: netip.MustParseAddrPort(server)}}, nil)[0]
			newSocket := func() *socket {
				here, there := net.Pipe()
				t.Cleanup(func() { _ = there.Close() })
				return s.newSocket(here)
			}
			take := func() *socket {
				c, used, err := s.socket(t.Context())
				require.NoError(t, err)
				require.True(t, used)
				require.Empty(t, s.idle, "it has one query at a time")
				return c
			}
			c := newSocket()
			s.keep(c)
			require.Equal(t, again, !c.closed(), server)
			require.Equal(t, again, len(s.idle) == 1, server)
			if !again {
				return
			}
			for range socketQueries - 1 {
				require.Same(t, c, take())
				require.False(t, c.closed(), "one query has not ended")
				s.keep(c)
			}
			require.True(t, c.closed(), "it has carried its last query")
			require.Empty(t, s.idle)

			wait := func() {
				time.Sleep(socketLife)
				synctest.Wait()
			}
			c = newSocket()
			s.keep(c)
			require.Same(t, c, take())
			wait()
			require.False(t, c.closed(), "one query has not ended")
			s.keep(c)
			require.True(t, c.closed(), "its life has ended")

			c = newSocket()
			s.keep(c)
			wait()
			require.True(t, c.closed(), "without another query")
			require.Empty(t, s.idle)

			c, last := newSocket(), newSocket()
			s.keep(c)
			s.close()
			require.True(t, c.closed())
			s.keep(last)
			require.True(t, last.closed(), "its query ended later")
			wait()
		})
	}
}

// A flood of timeouts leaves thousands of closed sockets to their timers, and a flood of answers idle ones.
func TestASocketKeepsNoBuffer(t *testing.T) {
	t.Parallel()
	require.Less(t, reflect.TypeFor[socket]().Size(), uintptr(100))
}

func (c *socket) closed() bool { return errors.Is(c.SetDeadline(time.Time{}), io.ErrClosedPipe) }

// A server may answer the queries of a connection one after the other, and block on a silent one: further queries use
// another connection.
func TestAStalledConnectionGetsNoMoreQueries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer func() { _, _ = ours.Close(), theirs.Close() }()
		query := func(c *stream) *stream {
			c.add(&pending{done: make(chan struct{})})
			return c
		}
		connections := make([]*stream, maxStreams)
		for i := range connections {
			connections[i] = newStream()
			connections[i].conn = &miekg.Conn{Conn: ours}
		}
		s := server{streams: connections}
		require.Same(t, connections[0], query(s.stream()))
		time.Sleep(stallTime)
		require.Same(t, connections[0], query(s.stream()), "it may still answer")
		time.Sleep(time.Nanosecond)
		require.Same(t, connections[1], query(s.stream()))
		connections[0].deliver([]byte{1, 2})
		require.Same(t, connections[0], query(s.stream()), "something has arrived")
		for _, c := range connections {
			query(c)
		}
		time.Sleep(time.Hour)
		require.Same(t, connections[0], query(s.stream()), "all of them stall")
		require.Len(t, s.streams, maxStreams)
	})
}

// The answer to a query that was given up may arrive when another query has its ID. It is neither the answer to that
// query nor a failure of it. A query keeps its ID until it ends.
func TestALateAnswerIsNotThatOfAnotherQuery(t *testing.T) {
	t.Parallel()
	late := map[string]func(query *miekg.Msg) []byte{
		"of another name": func(q *miekg.Msg) []byte { return replyTo(q, "other.example.", q.Question[0].Qtype) },
		"of another type": func(q *miekg.Msg) []byte { return replyTo(q, q.Question[0].Name, miekg.TypeA) },
		"of another type, cut": func(q *miekg.Msg) []byte {
			octets := replyTo(q, q.Question[0].Name, miekg.TypeA)
			return octets[:len(octets)-1]
		},
	}
	for name, message := range late {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			defer func() { _ = ours.Close(); _ = theirs.Close() }()
			c := newStream()
			c.conn = &miekg.Conn{Conn: ours}
			close(c.ready)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				query, err := (&miekg.Conn{Conn: theirs}).ReadMsg()
				if err != nil {
					return
				}
				c.deliver(message(query))
				c.deliver(replyTo(query, query.Question[0].Name, query.Question[0].Qtype))
			}()
			q := queryFor("example.com.", dns.TypeTXT)
			octets, err := q.Pack(make([]byte, dnsmsg.MaxQuery))
			require.NoError(t, err)
			answer, err := c.ask(t.Context(), q, octets)
			<-sent
			require.NoError(t, err)
			r, _, err := answer.RRset(q, false)
			require.NoError(t, err)
			require.Equal(t, []string{"text"}, r.TXT())
			require.Empty(t, c.waiting, "the ID is free again")
		})
	}
}

// A query that expires does not end another one that has been given its ID after it was answered.
func TestAnExpiredQueryEndsNoOther(t *testing.T) {
	t.Parallel()
	c := newStream()
	answered, next := &pending{id: 7}, &pending{id: 7}
	c.waiting[7] = next
	require.ErrorIs(t, c.expire(answered, context.Canceled), context.Canceled)
	require.Same(t, next, c.waiting[7])
	require.ErrorIs(t, c.expire(next, context.Canceled), context.Canceled)
	require.Empty(t, c.waiting)
}

// Of many queries on a dead connection, the first that times out closes it. One that times out at that moment is not
// sent again over the next connection, but its error is still a timeout: the lookup has another try.
func TestAQueryThatTimesOutWithItsStreamHasTimedOut(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer func() { _, _ = ours.Close(), theirs.Close() }()
			c, next := newStream(), newStream()
			c.conn, next.conn = &miekg.Conn{Conn: ours}, &miekg.Conn{Conn: ours}
			s := server{streams: []*stream{c, next}}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				_, err := s.overStream(ctx, queryFor("example.com.", dns.TypeMX), time.Now().Add(time.Hour))
				done <- err
			}()
			synctest.Wait()
			c.end(errLost)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		})
	}
}

// failing is a connection whose writes fail.
type failing struct {
	net.Conn
	err error
}

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A server may close a connection after its last answer, so that further queries cannot be sent. The answer is read.
func TestAnErrorOfAWriteLeavesTheAnswersToTheReader(t *testing.T) {
	t.Parallel()
	for err, closed := range map[error]bool{syscall.EPIPE: false, os.ErrDeadlineExceeded: true} {
		ours, theirs := net.Pipe()
		defer func() { _, _ = ours.Close(), theirs.Close() }()
		c := newStream()
		c.conn = &miekg.Conn{Conn: failing{ours, err}}
		c.write(make([]byte, 100))
		require.Equal(t, closed, c.closed(), err)
	}
}

// slow is a TLS connection whose server does not read: Close tries for five seconds to send a close_notify.
type slow struct{ failing }

const slowClose = 5 * time.Second

func (slow) Close() error {
	time.Sleep(slowClose)
	return nil
}

// Such a server does not delay the query that detects it, nor any other query through the mutex of the server.
func TestTheEndOfAStreamIsNotAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer func() { _, _ = ours.Close(), theirs.Close() }()
		c := newStream()
		c.conn = &miekg.Conn{Conn: slow{failing{ours, os.ErrDeadlineExceeded}}}
		began := time.Now()
		c.write(make([]byte, 100))
		require.True(t, c.closed())
		require.Equal(t, began, time.Now())
		time.Sleep(slowClose)
	})
}

// busy is a connection with a Write that ends when released is closed. It counts the deadlines that are set during it.
type busy struct {
	net.Conn
	writing, released chan struct{}
	extended          *atomic.Int32
}

func (b busy) SetWriteDeadline(time.Time) error {
	select {
	case <-b.writing:
		b.extended.Add(1)
	default:
	}
	return nil
}

func (b busy) Write([]byte) (int, error) {
	select {
	case <-b.writing:
	default:
		close(b.writing)
		<-b.released
	}
	return 0, os.ErrDeadlineExceeded
}

// A query that waits behind a blocked write does not give that write more time.
func TestABlockedWriteKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	c, b := newStream(), busy{writing: make(chan struct{}), released: make(chan struct{}), extended: new(atomic.Int32)}
	ours, theirs := net.Pipe()
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	b.Conn = ours
	c.conn = &miekg.Conn{Conn: b}
	var all sync.WaitGroup
	all.Go(func() { c.write(make([]byte, 100)) })
	<-b.writing
	for range 3 {
		all.Go(func() { c.write(make([]byte, 100)) })
	}
	time.Sleep(20 * time.Millisecond) // so that they would have set the deadline
	require.Zero(t, b.extended.Load())
	close(b.released)
	all.Wait()
	require.True(t, c.closed())
}

// Each query ends when its own time is over, over UDP and on a stream that brings other messages.
func TestEachQueryHasItsOwnTime(t *testing.T) {
	t.Parallel()
	times := []time.Duration{3, 1, 2, 5, 1}
	for name, ask := range map[string]func(conn net.Conn, c *stream, until time.Time) error{
		"UDP": func(conn net.Conn, _ *stream, until time.Time) error {
			c := &socket{Conn: conn}
			_ = c.SetDeadline(until)
			_, err := c.ask(queryFor("example.com.", dns.TypeMX), until)
			return err
		},
		"a stream": func(_ net.Conn, c *stream, until time.Time) error {
			ctx, cancel := context.WithDeadline(context.Background(), until)
			defer cancel()
			_, err := c.ask(ctx, queryFor("example.com.", dns.TypeMX), make([]byte, 100))
			return err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			shared := newStream()
			close(shared.ready)
			began := time.Now()
			var all sync.WaitGroup
			for _, seconds := range times {
				ours, theirs := net.Pipe()
				if shared.conn == nil {
					shared.conn = &miekg.Conn{Conn: ours}
				}
				all.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
				all.Go(func() {
					err := ask(ours, shared, began.Add(seconds*time.Second))
					if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != seconds*time.Second {
						t.Errorf("%s: %d s: %v after %v", name, seconds, err, time.Since(began))
					}
				})
				time.AfterFunc(slices.Max(times)*time.Second+1, func() { _ = ours.Close() })
				synctest.Wait()
			}
			for range slices.Max(times) * 10 {
				shared.deliver([]byte{0, 0}) // no query waits for it
				time.Sleep(100 * time.Millisecond)
			}
			all.Wait()
			require.Empty(t, shared.waiting)
		})
	}
}

func queryFor(fqdn string, t dns.Type) dnsmsg.Query {
	return dnsmsg.Query{Name: fqdn, Type: t, Class: dnsmsg.ClassINET}
}

// replyTo returns an answer with the ID of a query and a record of the question, nil if it cannot be packed.
func replyTo(query *miekg.Msg, name string, qtype uint16) []byte {
	m := new(miekg.Msg)
	m.SetReply(query)
	m.Question[0].Name, m.Question[0].Qtype = name, qtype
	m.Answer = []miekg.RR{&miekg.TXT{Hdr: miekg.RR_Header{Name: name, Rrtype: miekg.TypeTXT, Class: miekg.ClassINET}, Txt: []string{"text"}}}
	octets, _ := m.Pack()
	return octets
}
