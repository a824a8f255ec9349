package stub

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// Only sockets to loopback are used again: a query to any other address has a port of its own (RFC 5452 section 9.2).
func TestWhichSocketsAreUsedAgain(t *testing.T) {
	t.Parallel()
	for server, again := range map[string]bool{
		"127.0.0.1:53": true, "127.9.9.9:53": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true,
		"192.0.2.1:53": false, "10.0.0.1:53": false, "[2001:db8::1]:53": false, "[fe80::1]:53": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			var p sockets
			open := func() *socket {
				here, there := net.Pipe()
				t.Cleanup(func() {
					_ = here.Close()
					_ = there.Close()
				})
				return &socket{Conn: here, server: netip.MustParseAddrPort(server), opened: time.Now()}
			}
			s := open()
			p.put(s)
			require.Equal(t, again, len(p.idle) == 1, server)
			if !again {
				return
			}
			got, err := p.take(t.Context(), s.server)
			require.NoError(t, err)
			require.Same(t, s, got)
			require.Empty(t, p.idle, "one query at a time")
			s.queries = socketQueries - 1
			p.put(s)
			require.Empty(t, p.idle, "it has had its queries")

			p.put(open())
			time.Sleep(socketLife + 1)
			p.closeOld()
			require.Empty(t, p.idle, "it has had its time")
			for range maxIdle + 3 {
				p.put(open())
			}
			require.Len(t, p.idle, maxIdle)
			p.close()
			require.Empty(t, p.idle)
		})
	}
}

// A server may answer the queries of a connection one after the other, and block on a silent one: further queries use
// another connection.
func TestAStalledConnectionGetsNoMoreQueries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := onThisMachine()[0]
		connections := make([]*stream, maxStreams)
		for i := range connections {
			connections[i] = &stream{waiting: map[uint16]chan []byte{}}
		}
		p := streams{open: map[Server][]*stream{server: connections}}
		require.Same(t, connections[0], p.get(server))
		_, err := connections[0].register(make(chan []byte, 1))
		require.NoError(t, err)
		time.Sleep(stallTime)
		require.Same(t, connections[0], p.get(server), "it may still answer")
		time.Sleep(time.Nanosecond)
		require.Same(t, connections[1], p.get(server))
		connections[0].deliver([]byte{1, 2})
		require.Same(t, connections[0], p.get(server), "something has arrived")
		for _, c := range connections {
			_, err := c.register(make(chan []byte, 1))
			require.NoError(t, err)
		}
		time.Sleep(time.Hour)
		require.Same(t, connections[0], p.get(server), "all of them stall")
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
			c := &stream{ready: make(chan struct{}), waiting: map[uint16]chan []byte{}, conn: ours}
			close(c.ready)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				octets, err := readMessage(theirs)
				query := new(miekg.Msg)
				if err != nil || query.Unpack(octets) != nil {
					return
				}
				c.deliver(message(query))
				c.deliver(replyTo(query, query.Question[0].Name, query.Question[0].Qtype))
			}()
			answer, err := c.ask(t.Context(), newQuery("example.com.", miekg.TypeMX, miekg.ClassINET))
			<-sent
			require.NoError(t, err)
			require.Equal(t, "example.com.", answer.Question[0].Name)
			require.Equal(t, miekg.TypeMX, answer.Question[0].Qtype)
			require.Empty(t, c.waiting, "the ID is free again")
		})
	}
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
