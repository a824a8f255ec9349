package stub

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// Only sockets to loopback are used again: a query to any other address has a port of its own (RFC 5452 section 9.2).
func TestWhichSocketsAreUsedAgain(t *testing.T) {
	t.Parallel()
	for server, again := range map[string]bool{
		"127.0.0.1:53": true, "127.9.9.9:53": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true,
		"192.0.2.1:53": false, "10.0.0.1:53": false, "[2001:db8::1]:53": false, "[fe80::1]:53": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			r := route{Server{Addr: netip.MustParseAddrPort(server)}, true}
			tr := newTransport(nil)
			open := func() *link {
				here, there := net.Pipe()
				t.Cleanup(func() { _ = there.Close() })
				c := newLink(r)
				c.conn = &miekg.Conn{Conn: here}
				close(c.ready)
				tr.open[r] = []*link{c}
				return c
			}
			query := func() *pending { return newPending(miekg.Question{}, time.Now().Add(time.Hour)) }
			end := func(c *link, p *pending) { _, _ = c.expire(p, context.Canceled) }
			s, p := open(), query()
			require.Same(t, s, tr.get(r, p))
			end(s, p)
			require.Equal(t, again, !s.over(), server)
			if !again {
				return
			}
			for range socketQueries - 1 {
				p := query()
				require.Same(t, s, tr.get(r, p))
				require.False(t, s.closed(), "one query has not ended")
				end(s, p)
			}
			require.True(t, s.closed(), "it has had its queries")

			s, p = open(), query()
			require.Same(t, s, tr.get(r, p))
			time.Sleep(socketLife + 1)
			require.True(t, s.over(), "it has had its time")
			require.False(t, s.closed(), "one query has not ended")
			end(s, p)
			require.True(t, s.closed())

			s = open()
			tr.close()
			require.True(t, s.closed())
		})
	}
}

func (c *link) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil
}

// A server may answer the queries of a connection one after the other, and block on a silent one: further queries use
// another connection.
func TestAStalledConnectionGetsNoMoreQueries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := route{onThisMachine()[0], false}
		ours, theirs := net.Pipe()
		defer func() { _, _ = ours.Close(), theirs.Close() }()
		query := func() *pending { return newPending(miekg.Question{}, time.Now().Add(24*time.Hour)) }
		connections := make([]*link, maxStreams)
		for i := range connections {
			connections[i] = newLink(server)
			connections[i].conn = &miekg.Conn{Conn: ours}
		}
		p := transport{open: map[route][]*link{server: connections}}
		require.Same(t, connections[0], p.get(server, query()))
		time.Sleep(stallTime)
		require.Same(t, connections[0], p.get(server, query()), "it may still answer")
		time.Sleep(time.Nanosecond)
		require.Same(t, connections[1], p.get(server, query()))
		connections[0].deliver([]byte{1, 2})
		require.Same(t, connections[0], p.get(server, query()), "something has arrived")
		for _, c := range connections {
			c.add(query())
		}
		time.Sleep(time.Hour)
		require.Same(t, connections[0], p.get(server, query()), "all of them stall")
		require.Len(t, p.open[server], maxStreams)
	})
}

// The answer to a query that was given up may arrive when another query has its ID. It is not the answer to that one, and
// no failure of it either. A query keeps its ID until it ends.
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
			c := newLink(route{onThisMachine()[0], false})
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
			q := inet("example.com.", dns.TypeMX)
			octets, err := pack(q)
			require.NoError(t, err)
			p := newPending(q, time.Now().Add(time.Minute))
			c.add(p)
			answer, err := c.ask(t.Context(), p, octets)
			<-sent
			require.NoError(t, err)
			require.Equal(t, "example.com.", answer.Question[0].Name)
			require.Equal(t, miekg.TypeMX, answer.Question[0].Qtype)
			require.Empty(t, c.waiting, "the ID is free again")
		})
	}
}

// Each query of a connection ends when its own time is over.
func TestEachQueryHasItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, theirs)
		}()
		c := newLink(route{onThisMachine()[0], true})
		c.conn = &miekg.Conn{Conn: ours}
		close(c.ready)
		began := time.Now()
		var all sync.WaitGroup
		for _, seconds := range []time.Duration{3, 1, 2, 5, 1} {
			p := newPending(inet("example.com.", dns.TypeMX), began.Add(seconds*time.Second))
			c.add(p)
			all.Go(func() {
				_, err := c.ask(t.Context(), p, make([]byte, 100))
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != seconds*time.Second {
					t.Errorf("%d s: %v after %v", seconds, err, time.Since(began))
				}
			})
			synctest.Wait()
		}
		all.Wait()
		require.Empty(t, c.waiting)
		require.NoError(t, ours.Close())
		<-read
	})
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
