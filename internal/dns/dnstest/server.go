// Package dnstest is a recursive resolver with scripted answers, for tests and for trying policyd without a network. It
// answers on a loopback address over UDP and TCP, like a validating resolver whose cache holds only the names that were
// set.
package dnstest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// Server is the resolver. Make one with Start, and Close it.
type Server struct {
	tcp    *miekg.Server
	addr   string
	closed chan struct{}
	close  sync.Once

	echoAD, weak, dead, garbage atomic.Bool
	delay                       atomic.Int64

	mu      sync.Mutex
	all     []*miekg.Server // the servers for UDP, TCP and TLS
	answers map[dns.Question]Answer
	other   Answer
	asked   map[dns.Question]int
	queries int
}

// Start starts a server on an address: "127.0.0.1" for a free port there, "127.0.0.1:5300" for that one. It passes the
// self-test. It calls each of prepare, such as to set answers, before the server answers.
func Start(address string, prepare ...func(*Server)) (*Server, error) {
	s := &Server{
		closed: make(chan struct{}), answers: map[dns.Question]Answer{}, asked: map[dns.Question]int{},
		other: Answer{Rcode: "NXDOMAIN", Secure: true},
	}
	for _, name := range []string{"", "com"} {
		s.Set(name, dns.TypeNS, Answer{Secure: true, Records: []string{"NS a.root-servers.net."}})
		s.Set(name, dns.TypeA, Answer{Secure: true})
	}
	for _, f := range prepare {
		f(s)
	}
	if _, err := netip.ParseAddrPort(address); err != nil {
		address = net.JoinHostPort(address, "0")
	}
	const tries = 10
	for range tries {
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("dnstest: %w", err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			_ = tcp.Close() // the port is in use for UDP
			continue
		}
		s.addr = tcp.Addr().String()
		s.tcp = &miekg.Server{Listener: tcp}
		s.serve(s.tcp)
		s.serve(&miekg.Server{PacketConn: udp})
		return s, nil
	}
	return nil, fmt.Errorf("dnstest: no port of %s is free for UDP and TCP", address)
}

// serve returns when d accepts queries.
func (s *Server) serve(d *miekg.Server) {
	s.mu.Lock()
	s.all = append(s.all, d)
	s.mu.Unlock()
	started := make(chan struct{})
	d.Handler, d.NotifyStartedFunc = s, func() { close(started) }
	go func() { _ = d.ActivateAndServe() }()
	<-started
}

// StartTLS also serves DNS over TLS, on a free port of its own, and returns the address and port.
func (s *Server) StartTLS(config *tls.Config) (string, error) {
	host, _, _ := net.SplitHostPort(s.addr)
	tcp, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("dnstest: %w", err)
	}
	s.serve(&miekg.Server{Listener: tls.NewListener(tcp, config)})
	return tcp.Addr().String(), nil
}

// StopTCP makes the server refuse TCP from now on.
func (s *Server) StopTCP() error { return s.tcp.Shutdown() }

// Addr returns the address and port in the form of the settings.
func (s *Server) Addr() string { return s.addr }

// Close stops the server.
func (s *Server) Close() (err error) {
	s.close.Do(func() { close(s.closed) })
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()
	for _, d := range all {
		err = errors.Join(err, d.Shutdown())
	}
	return err
}

// Set sets the answer to a question. The name is without the final dot. Malformed records panic.
func (s *Server) Set(name string, t dns.Type, a Answer) {
	a.parse()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[question(name, t)] = a
}

// SetOther sets the answer to all other questions, which is NXDOMAIN otherwise.
func (s *Server) SetOther(a Answer) {
	a.parse()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.other = a
}

// SetValidating sets whether answers may have the AD bit, including those to the self-test.
func (s *Server) SetValidating(yes bool) { s.weak.Store(!yes) }

// SetEchoAD makes the server copy the AD bit of each query into its answer, as some forwarders do.
func (s *Server) SetEchoAD(yes bool) { s.echoAD.Store(yes) }

// SetDead makes the server ignore all queries.
func (s *Server) SetDead(yes bool) { s.dead.Store(yes) }

// SetDelay delays every answer, in addition to its own Delay.
func (s *Server) SetDelay(d time.Duration) { s.delay.Store(int64(d)) }

// SetGarbage makes the server answer with octets that are not a message.
func (s *Server) SetGarbage(yes bool) { s.garbage.Store(yes) }

// Asked returns how often a question was asked.
func (s *Server) Asked(name string, t dns.Type) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question(name, t)]
}

func question(name string, t dns.Type) dns.Question {
	return dns.Question{Name: dns.Lower(dns.TrimRoot(name)), Type: t}
}

// Queries returns the number of queries, except those of the self-test.
func (s *Server) Queries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries
}

// find returns the answer to a question, and counts it.
func (s *Server) find(q miekg.Question) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := question(q.Name, dns.Type(q.Qtype))
	if q.Qclass == miekg.ClassINET {
		s.asked[asked]++
		if asked.Type != dns.TypeNS && asked.Name != "" && asked.Name != "com" {
			s.queries++
		}
	}
	a, ok := s.answers[asked]
	switch {
	case s.dead.Load():
		return Answer{Drop: true}
	case ok:
	case q.Qclass == miekg.ClassCHAOS:
		a = Answer{Rcode: "REFUSED"}
	default:
		a = s.other
	}
	a.Secure, a.Delay = a.Secure && !s.weak.Load(), a.Delay+time.Duration(s.delay.Load())
	return a
}

// ServeDNS answers; the DNS library calls it.
func (s *Server) ServeDNS(w miekg.ResponseWriter, query *miekg.Msg) {
	if len(query.Question) != 1 {
		return
	}
	a := s.find(query.Question[0])
	if a.Delay > 0 {
		select {
		case <-time.After(a.Delay):
		case <-s.closed:
			return
		}
	}
	if s.garbage.Load() {
		_, _ = w.Write([]byte("\xff\xfe this is not a message"))
		return
	}
	m := a.message(query)
	if s.echoAD.Load() {
		m.AuthenticatedData = query.AuthenticatedData
	}
	_, datagram := w.RemoteAddr().(*net.UDPAddr)
	if datagram && a.Strays {
		sendStrays(w, m)
	}
	if a.Drop {
		return
	}
	room := miekg.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		room = int(opt.UDPSize())
	}
	if datagram && (a.Truncate || !a.Oversize && m.Len() > room) {
		m.Truncated, m.Answer, m.Ns = true, nil, nil
	}
	if a.Change != nil {
		a.Change(m)
	}
	_ = w.WriteMsg(m)
}
