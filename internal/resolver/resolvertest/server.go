// Package resolvertest is a recursive resolver that says what it is told to: for
// tests, and for trying policyd out without a network. It answers on a loopback address over UDP
// and TCP, like a validating resolver whose cache holds just the names that were set.
package resolvertest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/policyd/policyd/internal/resolver"
)

// Answer is what a Server says to one question. The zero Answer is a denial: NODATA, insecure.
type Answer struct {
	// Secure sets the AD bit.
	Secure bool
	// TTL of the records, and of the SOA of a denial; 300 s by default, negative for 0.
	TTL int
	// Records are in the form of a zone file without owner, TTL and class: "MX 10 mx.example.com.". One with an
	// owner is written "=owner. MX 10 mx.example.com.".
	Records []string
	// Rcode is NOERROR unless set: "NXDOMAIN", "SERVFAIL", …
	Rcode string
	// EDE is an Extended DNS Error (RFC 8914), with EDEText; 0 for none.
	EDE     uint16
	EDEText string
	// Delay is how long the answer takes.
	Delay time.Duration
	// Drop leaves the question without an answer.
	Drop bool
	// Truncate answers TC=1 over UDP, with the AD bit and without records.
	Truncate bool
	// NoSOA leaves the SOA out of a denial.
	NoSOA bool
	// Strays are sent before the answer over UDP: a wrong ID, question, class and QR bit, and no message at all.
	Strays bool
	// OtherQuestion answers a question for another name.
	OtherQuestion bool
}

// Server is the resolver. Make one with Start, and Close it.
type Server struct {
	udp, tcp *dns.Server
	addr     string

	mu       sync.Mutex
	answers  map[string]Answer
	other    *Answer
	asked    map[string]int
	echoAD   bool
	validate bool
	dead     bool
}

// Start starts a server on a free port of address, such as "127.0.0.1". It passes the self-test.
func Start(address string) (*Server, error) {
	s := &Server{answers: map[string]Answer{}, asked: map[string]int{}, validate: true}
	const tries = 10
	for range tries {
		var lc net.ListenConfig
		tcp, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			return nil, fmt.Errorf("resolvertest: %w", err)
		}
		udp, err := lc.ListenPacket(context.Background(), "udp", tcp.Addr().String())
		if err != nil {
			_ = tcp.Close() // the port is taken for UDP
			continue
		}
		s.addr = tcp.Addr().String()
		s.tcp, s.udp = &dns.Server{Listener: tcp, Handler: s}, &dns.Server{PacketConn: udp, Handler: s}
		for _, d := range []*dns.Server{s.tcp, s.udp} {
			started := make(chan struct{})
			d.NotifyStartedFunc = func() { close(started) }
			go func() { _ = d.ActivateAndServe() }()
			<-started
		}
		return s, nil
	}
	return nil, fmt.Errorf("resolvertest: no port of %s is free for UDP and TCP", address)
}

// Addr returns the address and port, as the settings take a server.
func (s *Server) Addr() string { return s.addr }

// AddrPort returns the same for programs.
func (s *Server) AddrPort() netip.AddrPort { return netip.MustParseAddrPort(s.addr) }

// Close stops the server.
func (s *Server) Close() error {
	err := s.udp.Shutdown()
	if e := s.tcp.Shutdown(); err == nil {
		err = e
	}
	return err
}

// Set says what the answer to a question is from now on. The name is without the final dot.
func (s *Server) Set(name string, t resolver.Type, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[t.String()+" "+strings.ToLower(name)] = a
}

// SetOther says what the answer to all other questions is; it is NXDOMAIN otherwise.
func (s *Server) SetOther(a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.other = &a
}

// SetValidating says whether the names of the self-test, and other answers, may have the AD bit.
func (s *Server) SetValidating(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.validate = yes
}

// SetEchoAD has the server copy the AD bit of each query into its answer, as some forwarders do.
func (s *Server) SetEchoAD(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echoAD = yes
}

// SetDead has the server take questions and give no answers.
func (s *Server) SetDead(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = yes
}

// Asked returns how often a question has come.
func (s *Server) Asked(name string, t resolver.Type) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[t.String()+" "+strings.ToLower(name)]
}

// Queries returns how many questions have come, those of the self-test left out.
func (s *Server) Queries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for question, times := range s.asked {
		if !strings.HasPrefix(question, resolver.TypeNS.String()+" ") {
			n += times
		}
	}
	return n
}

// find returns the answer to a question, and counts it.
func (s *Server) find(q dns.Question) (a Answer, echo bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	key := resolver.Type(q.Qtype).String() + " " + name
	if q.Qclass == dns.ClassINET {
		s.asked[key]++
	}
	found, ok := s.answers[key]
	switch {
	case s.dead:
		return Answer{Drop: true}, false
	case ok:
		a = found
	case q.Qclass == dns.ClassCHAOS:
		a = Answer{Rcode: "REFUSED", NoSOA: true}
	case q.Qtype == dns.TypeNS && (name == "" || name == "com"):
		a = Answer{Secure: true, Records: []string{"NS a.root-servers.net."}}
	case s.other != nil:
		a = *s.other
	default:
		a = Answer{Rcode: "NXDOMAIN", Secure: true}
	}
	a.Secure = a.Secure && s.validate
	return a, s.echoAD
}

// ServeDNS answers; the DNS library calls it.
func (s *Server) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	if len(query.Question) != 1 {
		return
	}
	a, echo := s.find(query.Question[0])
	if a.Drop {
		return
	}
	if a.Delay > 0 {
		time.Sleep(a.Delay)
	}
	m, err := a.message(query)
	if err != nil {
		m = new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	}
	if echo {
		m.AuthenticatedData = query.AuthenticatedData
	}
	_, datagram := w.RemoteAddr().(*net.UDPAddr)
	if datagram && a.Strays {
		sendStrays(w, m)
	}
	if datagram && (a.Truncate || m.Len() > payload(query)) {
		m.Truncated, m.Answer, m.Ns = true, nil, nil
	}
	_ = w.WriteMsg(m) // who does not wait for the answer does not get it
}

func payload(query *dns.Msg) int {
	if opt := query.IsEdns0(); opt != nil {
		return int(opt.UDPSize())
	}
	return dns.MinMsgSize
}

// message makes the answer to a query.
func (a Answer) message(query *dns.Msg) (*dns.Msg, error) {
	m := new(dns.Msg).SetReply(query)
	m.RecursionAvailable, m.AuthenticatedData, m.Compress = true, a.Secure, true
	if a.Rcode != "" {
		m.Rcode = dns.StringToRcode[a.Rcode]
	}
	ttl := a.TTL
	switch {
	case ttl == 0:
		ttl = 300
	case ttl < 0:
		ttl = 0
	}
	for _, record := range a.Records {
		owner := query.Question[0].Name
		if rest, ok := strings.CutPrefix(record, "="); ok {
			owner, record, _ = strings.Cut(rest, " ")
		}
		rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s", owner, ttl, record))
		if err != nil {
			return nil, err
		}
		m.Answer = append(m.Answer, rr)
	}
	if len(a.Records) == 0 && !a.NoSOA && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
		zone := query.Question[0].Name
		rr, err := dns.NewRR(fmt.Sprintf("%s %d IN SOA ns. hostmaster. 1 3600 600 86400 %d", zone, ttl, ttl))
		if err != nil {
			return nil, err
		}
		m.Ns = append(m.Ns, rr)
	}
	if a.EDE != 0 {
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: a.EDE, ExtraText: a.EDEText})
		m.Extra = append(m.Extra, opt)
	}
	if a.OtherQuestion {
		m.Question[0].Name = "other.example."
	}
	return m, nil
}

// sendStrays sends what a stub must not take for the answer m: all of it says NXDOMAIN, with the AD bit.
func sendStrays(w dns.ResponseWriter, m *dns.Msg) {
	for _, wrong := range []func(*dns.Msg){
		func(s *dns.Msg) { s.Id++ },
		func(s *dns.Msg) { s.Question[0].Name = "other.example." },
		func(s *dns.Msg) { s.Question[0].Qtype = dns.TypeTXT },
		func(s *dns.Msg) { s.Question[0].Qclass = dns.ClassCHAOS },
		func(s *dns.Msg) { s.Question = nil },
		func(s *dns.Msg) { s.Response = false },
		func(s *dns.Msg) { s.Opcode = dns.OpcodeNotify },
	} {
		stray := m.Copy()
		stray.Rcode, stray.AuthenticatedData, stray.Answer, stray.Ns = dns.RcodeNameError, true, nil, nil
		wrong(stray)
		_ = w.WriteMsg(stray)
	}
	_, _ = w.Write([]byte("no DNS message at all"))
}
