package stub_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/stub"
)

// raw serves UDP with a function from the octets of a query to the datagrams of its answer.
func raw(t *testing.T, answer func(query []byte) [][]byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 65535)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			for _, datagram := range answer(buffer[:n]) {
				_, _ = conn.WriteTo(datagram, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return conn.LocalAddr().String()
}

// reply packs an answer to a query with one MX record, after a change.
func reply(t *testing.T, query []byte, change func(*miekg.Msg)) []byte {
	t.Helper()
	q := new(miekg.Msg)
	require.NoError(t, q.Unpack(query))
	m := new(miekg.Msg).SetReply(q)
	rr, err := miekg.NewRR(q.Question[0].Name + " 60 IN MX 10 mx.example.")
	require.NoError(t, err)
	m.Answer = []miekg.RR{rr}
	if change != nil {
		change(m)
	}
	octets, err := m.Pack()
	require.NoError(t, err)
	return octets
}

// A server may send more than the 1,232 octets that the query offers, without TC.
func TestALargeDatagramIsRead(t *testing.T) {
	t.Parallel()
	server, s := on(t, longTimeout)
	for _, size := range []int{1300, 4000, 4096, 4097, 4200, 60000} {
		var records []string
		for n := 0; n < size; n += 30 {
			records = append(records, fmt.Sprintf("MX 10 mx%09d.example.net.", n))
		}
		name := fmt.Sprintf("d%d.example", size)
		server.Set(name, dns.TypeMX, dnstest.Answer{Secure: true, Records: records, Oversize: true})
		require.Len(t, answer(t, s, mx(name)).MX(), len(records), size)
	}
}

// Sockets to loopback are used again; IDs stay random.
func TestLoopbackSocketsAreUsedAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ports, ids := map[string]int{}, map[uint16]bool{}
	addr := udp(t, func(w miekg.ResponseWriter, m *miekg.Msg) {
		mu.Lock()
		ports[w.RemoteAddr().String()]++
		ids[m.Id] = true
		mu.Unlock()
		_ = w.WriteMsg(new(miekg.Msg).SetReply(m))
	})
	s := newStub(t, stub.Options{Servers: []string{addr}, Trust: stub.TrustNever})
	const queries, each = 1500, 512
	for i := range queries {
		answer(t, s, mx(fmt.Sprint("d", i, ".example")))
	}
	mu.Lock()
	defer mu.Unlock()
	require.GreaterOrEqual(t, len(ports), queries/each, "a socket is replaced after that many queries")
	require.Less(t, len(ports), 20)
	for port, n := range ports {
		require.LessOrEqual(t, n, each, port)
	}
	require.Greater(t, len(ids), queries/2)
}

// Each query that waits has a loopback socket to itself, in whatever order they are answered. The next ones use the same
// sockets.
func TestQueriesDoNotShareALoopbackSocket(t *testing.T) {
	t.Parallel()
	const queries = 65
	var mu sync.Mutex
	var held []func()
	ports := map[string]bool{}
	addr := udp(t, func(w miekg.ResponseWriter, m *miekg.Msg) {
		mu.Lock()
		defer mu.Unlock()
		ports[w.RemoteAddr().String()] = true
		held = append(held, func() { _ = w.WriteMsg(new(miekg.Msg).SetReply(m)) })
		if len(held) == queries {
			for _, reply := range slices.Backward(held) {
				reply()
			}
			held = nil
		}
	})
	s := newStub(t, stub.Options{Servers: []string{addr}, Trust: stub.TrustNever, Timeout: longTimeout})
	for round := range 2 {
		var all sync.WaitGroup
		for i := range queries {
			all.Go(func() {
				name := fmt.Sprint("d", i, ".example")
				r, err := s.Lookup(t.Context(), mx(name), dns.Effort{})
				if err != nil || r.Name != name {
					t.Error(name, err)
				}
			})
		}
		all.Wait()
		mu.Lock()
		require.GreaterOrEqual(t, len(ports), queries)
		require.Less(t, len(ports), queries+queries*(round+1)/2)
		mu.Unlock()
	}
}

// counting counts the connections of a listener and can close them.
type counting struct {
	net.Listener
	accepted atomic.Int64
	mu       sync.Mutex
	open     []net.Conn
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
		l.mu.Lock()
		l.open = append(l.open, c)
		l.mu.Unlock()
	}
	return c, err
}

// reset closes the connections with a RST.
func (l *counting) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	l.open = nil
}

// overTLS serves DNS over TLS with a function for each connection, and returns a stub on that server.
func overTLS(t *testing.T, timeout time.Duration, serve func(conn net.Conn)) (*counting, *stub.Stub) {
	t.Helper()
	ca := smtptest.NewCA(t)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &counting{Listener: plain}
	secured := tls.NewListener(l, serverConfig(t, ca, "dns.example"))
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := secured.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = plain.Close()
		l.reset()
		all.Wait()
	})
	return l, newStub(t, stub.Options{Servers: []string{"tls://dns.example@" + plain.Addr().String()}, RootCAs: ca.Roots, Timeout: timeout, Trust: stub.TrustNever})
}

// read reads one message with its length.
func read(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	octets := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, octets)
	return octets, err
}

func write(w io.Writer, octets []byte) {
	_, _ = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(octets))), octets...))
}

// 1,000 cold lookups over DNS over TLS need one connection. The second of each two is answered first.
func TestManyLookupsShareAConnection(t *testing.T) {
	t.Parallel()
	l, s := overTLS(t, longTimeout, func(conn net.Conn) {
		held := map[string][]byte{} // by name without "one-" or "two-"
		for {
			query, err := read(conn)
			if err != nil {
				return
			}
			q := new(miekg.Msg)
			if q.Unpack(query) != nil {
				return
			}
			_, pair, _ := strings.Cut(q.Question[0].Name, "-")
			if held[pair] == nil {
				held[pair] = reply(t, query, nil)
				continue
			}
			write(conn, reply(t, query, nil))
			write(conn, held[pair])
		}
	})
	var all sync.WaitGroup
	for worker := range 20 {
		for _, order := range []string{"one", "two"} {
			all.Go(func() {
				for i := range 25 {
					name := fmt.Sprintf("%s-%d.%d.example", order, worker, i)
					r, err := s.Lookup(t.Context(), mx(name), dns.Effort{})
					if err != nil || r.Name != name {
						t.Error(name, err)
					}
				}
			})
		}
	}
	all.Wait()
	require.EqualValues(t, 1, l.accepted.Load())
}

// A question without an answer does not delay the others on its connection.
func TestASilentQuestionDelaysNoOther(t *testing.T) {
	t.Parallel()
	l, s := overTLS(t, ample, func(conn net.Conn) {
		for {
			query, err := read(conn)
			if err != nil {
				return
			}
			if !strings.Contains(string(query), "silent") {
				write(conn, reply(t, query, nil))
			}
		}
	})
	var all sync.WaitGroup
	all.Go(func() { require.Contains(t, failure(t, s, mx("silent.example")).Reason, "timed out") })
	for i := range 100 {
		answer(t, s, mx(fmt.Sprint("d", i, ".example")))
	}
	all.Wait()
	require.LessOrEqual(t, l.accepted.Load(), int64(3), "after a timeout the connection may be dead")
}

// A connection that the server closed or reset costs a second try, and never a failed lookup.
func TestALostConnectionCostsNoLookup(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(l *counting){
		"reset while idle": func(l *counting) { l.reset() },
	} {
		l, s := overTLS(t, longTimeout, func(conn net.Conn) {
			for {
				query, err := read(conn)
				if err != nil {
					return
				}
				write(conn, reply(t, query, nil))
			}
		})
		for i := range 20 {
			answer(t, s, mx(fmt.Sprint("d", i, ".example")))
			lose(l)
		}
		require.EqualValues(t, 20, l.accepted.Load(), name)
	}
	for name, c := range map[string]struct{ answers, most int64 }{
		"closed after each answer":     {1, 100},
		"closed after seven answers":   {7, 100},
		"closed before the first time": {0, 2},
	} {
		var first atomic.Bool
		l, s := overTLS(t, longTimeout, func(conn net.Conn) {
			if c.answers == 0 && !first.Swap(true) {
				_, _ = read(conn)
				return
			}
			for n := int64(0); c.answers == 0 || n < c.answers; n++ {
				query, err := read(conn)
				if err != nil {
					return
				}
				write(conn, reply(t, query, nil))
			}
		})
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := range 10 {
					_, err := s.Lookup(t.Context(), mx(fmt.Sprintf("d%d-%d.example", worker, i)), dns.Effort{})
					if err != nil {
						t.Error(name, err)
					}
				}
			})
		}
		all.Wait()
		require.LessOrEqual(t, l.accepted.Load(), c.most, name)
	}
}

// Connections resume their TLS session.
func TestTLSSessionsAreResumed(t *testing.T) {
	t.Parallel()
	var resumed atomic.Int64
	l, s := overTLS(t, longTimeout, func(conn net.Conn) {
		for {
			query, err := read(conn)
			if err != nil {
				return
			}
			if secured, ok := conn.(*tls.Conn); ok && secured.ConnectionState().DidResume {
				resumed.Add(1)
			}
			write(conn, reply(t, query, nil))
		}
	})
	for i := range 3 {
		answer(t, s, mx(fmt.Sprint("d", i, ".example")))
		l.reset()
	}
	require.EqualValues(t, 2, resumed.Load())
	require.EqualValues(t, 3, l.accepted.Load())
}

// A connection on which nothing arrives is replaced after the first timeout: the second try of the lookup has a new one.
func TestASilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	l, s := overTLS(t, ample, func(conn net.Conn) {
		dead := connections.Add(1) == 1
		for {
			query, err := read(conn)
			if err != nil {
				return
			}
			if !dead {
				write(conn, reply(t, query, nil))
			}
		}
	})
	require.Len(t, answer(t, s, mx("example.com")).MX(), 1)
	require.EqualValues(t, 2, l.accepted.Load())
}

// A lookup whose time ends when it sends its query leaves the loopback socket to the queries that wait on it.
func TestALookupWithoutTimeEndsNoOther(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	arrived := make(chan func(), 100)
	addr := udp(t, func(w miekg.ResponseWriter, m *miekg.Msg) {
		if strings.HasPrefix(m.Question[0].Name, "waits") {
			asked.Add(1)
			arrived <- func() { _ = w.WriteMsg(new(miekg.Msg).SetReply(m)) }
		}
	})
	const rounds, late = 20, 50
	for range rounds {
		s := newStub(t, stub.Options{Servers: []string{addr}, Trust: stub.TrustNever, Timeout: longTimeout})
		done := make(chan error, 1)
		go func() {
			_, err := s.Lookup(t.Context(), mx("waits.example"), dns.Effort{})
			done <- err
		}()
		reply := <-arrived
		for i := range late {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond)
			_, err := s.Lookup(ctx, mx("late.example"), dns.Effort{})
			require.Error(t, err)
			cancel()
		}
		reply()
		select {
		case err := <-done:
			require.NoError(t, err)
		case again := <-arrived:
			again()
			require.Fail(t, "the query was lost")
		}
	}
	require.EqualValues(t, rounds, asked.Load())
}
