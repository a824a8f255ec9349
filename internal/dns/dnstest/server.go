// Package dnstest is a recursive resolver with scripted answers, for tests and for trying policyd without a network. It
// answers on a loopback address over UDP and TCP, like a validating resolver whose cache holds only the names that were
// set.
package dnstest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// Server is the resolver. Make one with Start, and Close it.
type Server struct {
	udp, tcp *miekg.Server
	addr     string
	closed   chan struct{}
	close    sync.Once

	mu       sync.Mutex
	tls      []*miekg.Server
	answers  map[string]Answer
	other    *Answer
	asked    map[string]int
	echoAD   bool
	validate bool
	dead     bool
	garbage  bool
	delay    time.Duration
}

// Start starts a server on an address: "127.0.0.1" for a free port there, "127.0.0.1:5300" for that one. It passes the
// self-test.
func Start(address string) (*Server, error) {
	s := &Server{answers: map[string]Answer{}, asked: map[string]int{}, validate: true, closed: make(chan struct{})}
	if _, err := netip.ParseAddrPort(address); err != nil {
		address = net.JoinHostPort(address, "0")
	}
	const tries = 10
	for range tries {
		var lc net.ListenConfig
		tcp, err := lc.Listen(context.Background(), "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("dnstest: %w", err)
		}
		udp, err := lc.ListenPacket(context.Background(), "udp", tcp.Addr().String())
		if err != nil {
			_ = tcp.Close() // the port is taken for UDP
			continue
		}
		s.addr = tcp.Addr().String()
		s.tcp, s.udp = &miekg.Server{Listener: tcp, Handler: s}, &miekg.Server{PacketConn: udp, Handler: s}
		serve(s.tcp)
		serve(s.udp)
		return s, nil
	}
	return nil, fmt.Errorf("dnstest: no port of %s is free for UDP and TCP", address)
}

// serve returns when d accepts queries.
func serve(d *miekg.Server) {
	started := make(chan struct{})
	d.NotifyStartedFunc = func() { close(started) }
	go func() { _ = d.ActivateAndServe() }()
	<-started
}

// StartTLS also serves DNS over TLS, on a free port of its own, and returns the address and port.
func (s *Server) StartTLS(config *tls.Config) (string, error) {
	host, _, _ := net.SplitHostPort(s.addr)
	var lc net.ListenConfig
	tcp, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("dnstest: %w", err)
	}
	d := &miekg.Server{Listener: tls.NewListener(tcp, config), Handler: s}
	serve(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tls = append(s.tls, d)
	return tcp.Addr().String(), nil
}

// StopTCP makes the server refuse TCP from now on.
func (s *Server) StopTCP() error { return s.tcp.Shutdown() }

// Addr returns the address and port in the form of the settings.
func (s *Server) Addr() string { return s.addr }

// AddrPort returns the address and port.
func (s *Server) AddrPort() netip.AddrPort { return netip.MustParseAddrPort(s.addr) }

// Close stops the server.
func (s *Server) Close() error {
	s.close.Do(func() { close(s.closed) })
	s.mu.Lock()
	all := append([]*miekg.Server{s.udp, s.tcp}, s.tls...)
	s.mu.Unlock()
	var err error
	for _, d := range all {
		if e := d.Shutdown(); err == nil {
			err = e
		}
	}
	return err
}

// Set sets the answer to a question. The name is without the final dot. Malformed records panic.
func (s *Server) Set(name string, t dns.Type, a Answer) {
	a.parse()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[t.String()+" "+strings.ToLower(name)] = a
}

// SetOther sets the answer to all other questions, which is NXDOMAIN otherwise.
func (s *Server) SetOther(a Answer) {
	a.parse()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.other = &a
}

// SetValidating sets whether answers may have the AD bit, those to the self-test included.
func (s *Server) SetValidating(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.validate = yes
}

// SetEchoAD makes the server copy the AD bit of each query into its answer, as some forwarders do.
func (s *Server) SetEchoAD(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echoAD = yes
}

// SetDead makes the server ignore all queries.
func (s *Server) SetDead(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = yes
}

// SetDelay delays every answer, in addition to its own Delay.
func (s *Server) SetDelay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// SetGarbage makes the server answer with octets that are not a message.
func (s *Server) SetGarbage(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.garbage = yes
}

// Asked returns how often a question was asked.
func (s *Server) Asked(name string, t dns.Type) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[t.String()+" "+strings.ToLower(name)]
}

// selfTest reports whether the self-test of a stub asks for the name.
func selfTest(name string) bool { return name == "" || name == "com" }

// Queries returns the number of queries, except those of the self-test.
func (s *Server) Queries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for question, times := range s.asked {
		rrtype, name, _ := strings.Cut(question, " ")
		if rrtype != dns.TypeNS.String() && !selfTest(name) {
			n += times
		}
	}
	return n
}

// find returns the answer to a question, and counts it.
func (s *Server) find(q miekg.Question) (a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	key := dns.Type(q.Qtype).String() + " " + name
	if q.Qclass == miekg.ClassINET {
		s.asked[key]++
	}
	found, ok := s.answers[key]
	switch {
	case s.dead:
		return Answer{Drop: true}
	case ok:
		a = found
	case q.Qclass == miekg.ClassCHAOS:
		a = Answer{Rcode: "REFUSED", NoSOA: true}
	case q.Qtype == miekg.TypeNS && selfTest(name):
		a = Answer{Secure: true, Records: []string{"NS a.root-servers.net."}}
		a.parse()
	case q.Qtype == miekg.TypeA && selfTest(name):
		a = Answer{Secure: true}
	case s.other != nil:
		a = *s.other
	default:
		a = Answer{Rcode: "NXDOMAIN", Secure: true}
	}
	a.Secure, a.Delay = a.Secure && s.validate, a.Delay+s.delay
	a.echoAD, a.garbage = s.echoAD, s.garbage
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
	if a.garbage {
		_, _ = w.Write([]byte("\xff\xfe this is not a message"))
		return
	}
	m := a.message(query)
	if a.echoAD {
		m.AuthenticatedData = query.AuthenticatedData
	}
	_, datagram := w.RemoteAddr().(*net.UDPAddr)
	if datagram && a.Strays {
		sendStrays(w, m)
	}
	if a.Drop {
		return
	}
	if datagram && (a.Truncate || !a.Oversize && m.Len() > payload(query)) {
		m.Truncated, m.Answer, m.Ns = true, nil, nil
	}
	if a.Change != nil {
		a.Change(m)
	}
	_ = w.WriteMsg(m)
}
