package resolver

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// StubOptions say which servers a Stub asks and when it believes them.
type StubOptions struct {
	// Servers are as ParseServer takes them, three at most; empty: those of ResolvConf.
	Servers []string
	// ResolvConf is the path of a resolv.conf(5), followed when it changes; "" means /etc/resolv.conf.
	ResolvConf string
	Trust      TrustMode
	// Timeout is for the first try of a query, 3 s by default. The next try has 5/3 of it, a lookup 4 times.
	Timeout time.Duration
	// SelfTestNames have a signed NS RRset, in order of preference; "." and "com." by default.
	SelfTestNames []string
	// RootCAs are for DNS over TLS; nil means the system's roots.
	RootCAs *x509.CertPool
	Logger  *slog.Logger
}

// Stub is a security-aware, non-validating stub resolver (RFC 4033 section 2) without a cache. Its answers
// are Secure only where every server may be trusted, the self-test has shown that it validates, and the
// answer has the AD bit.
type Stub struct {
	wire   exchanger // nil: the network
	change chan struct{}

	mu      sync.Mutex // guards what follows
	options StubOptions
	state   state
}

// state is what a lookup needs, replaced as a whole. The zero state trusts nothing.
type state struct {
	servers    []Server
	source     string
	trusted    bool
	result     Result
	reason     string
	checked    time.Time
	proven     []Server      // those that passed the self-test
	firstTry   chan struct{} // closed when the first self-test of these servers has ended
	generation Generation
	weak       bool                 // answers of before were insecure that may be secure once the servers validate
	slow       map[Server]time.Time // servers that timed out, until when they are asked last
}

// NewStub returns a Stub. Without Run, or SelfTest, nothing that it answers from trusted servers is secure:
// lookups fail.
func NewStub(o StubOptions) (*Stub, error) {
	s := &Stub{change: make(chan struct{}, 1)}
	return s, s.Configure(o)
}

// Configure puts new options in force. After an error the old ones are still in force.
func (s *Stub) Configure(o StubOptions) error {
	if o.Timeout <= 0 {
		o.Timeout = 3 * time.Second
	}
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if len(o.SelfTestNames) == 0 {
		o.SelfTestNames = []string{".", "com."}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	servers, source, err := serversOf(o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options = o
	s.use(servers, source)
	select {
	case s.change <- struct{}{}: // the self-test runs again
	default:
	}
	return nil
}

func serversOf(o StubOptions) (servers []Server, source string, err error) {
	if len(o.Servers) == 0 {
		servers, err = readResolvConf(o.ResolvConf)
		return servers, o.ResolvConf, err
	}
	if len(o.Servers) > maxServers {
		return nil, "", fmt.Errorf("resolver: %d servers, at most %d are used", len(o.Servers), maxServers)
	}
	for _, text := range o.Servers {
		server, err := ParseServer(text)
		if err != nil {
			return nil, "", err
		}
		servers = append(servers, server)
	}
	return servers, "settings", nil
}

// use makes servers the ones that are asked; s.mu is held. What was secure is void if they or the trust in
// them have changed.
func (s *Stub) use(servers []Server, source string) {
	trusted := s.options.Trust.trusts(servers)
	if slices.Equal(servers, s.state.servers) && trusted == s.state.trusted && s.state.firstTry != nil {
		s.state.source = source
		return
	}
	if s.state.firstTry != nil {
		s.options.Logger.Info("DNS servers changed", "servers", serverList(servers), "source", source, "trusted", trusted)
	}
	generation := s.state.generation
	generation.Secure++
	s.state = state{
		servers: servers, source: source, trusted: trusted, generation: generation,
		weak:     s.state.weak || s.state.result != Unknown && s.state.result != Validating,
		firstTry: make(chan struct{}), slow: map[Server]time.Time{},
	}
	if !trusted {
		s.state.result, s.state.reason = NotTrusted, "not every server is a resolver on loopback"
		if s.options.Trust == TrustNever {
			s.state.reason = `trust_ad = "never"`
		}
		close(s.state.firstTry)
	}
}

func serverList(servers []Server) string {
	var texts []string
	for _, s := range servers {
		texts = append(texts, s.String())
	}
	return strings.Join(texts, " ")
}

// snapshot returns the state as it is, and the options.
func (s *Stub) snapshot() (state, StubOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.options
}

// Generation tells the answers of different servers, trust and self-test results apart.
func (s *Stub) Generation() Generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.generation
}

// Lookup asks the servers. The error is an *Error. Before the first self-test of trusted servers has a
// result there is no answer.
func (s *Stub) Lookup(ctx context.Context, q Question) (*RRset, error) {
	q.Name = strings.ToLower(strings.TrimSuffix(q.Name, "."))
	if _, ok := dns.IsDomainName(dns.Fqdn(q.Name)); !ok {
		return nil, &Error{Question: q, Reason: "not a domain name"}
	}
	const tries = 2
	for range tries {
		now, options := s.snapshot()
		if !s.ready(ctx, &now) {
			return nil, &Error{Question: q, Reason: "the self-test of the resolver has no result: " + now.reason, Err: ctx.Err()}
		}
		rrset, err := s.ask(ctx, q, now, options)
		if err != nil || rrset.Status != Secure || s.Generation() == now.generation {
			return rrset, err
		}
		// The servers or the trust in them changed meanwhile: the answer is of another world.
	}
	return nil, &Error{Question: q, Reason: "the DNS servers keep changing"}
}

// ready waits for the end of the first self-test. It returns false if that has no result.
func (s *Stub) ready(ctx context.Context, now *state) bool {
	select {
	case <-now.firstTry:
	default:
		select {
		case <-now.firstTry:
		case <-ctx.Done():
			now.reason = "it has not ended yet"
			return false
		}
	}
	*now, _ = s.snapshot()
	if now.result == Unknown && now.reason == "" {
		now.reason = "it has not ended yet"
	}
	return now.result != Unknown
}

// ask asks one server after the other: a time-out or a network error leads to the next try, a failure that
// the resolver reports to the next server of the same list. The list is trusted as a whole, so no try is
// less trusted than another.
func (s *Stub) ask(ctx context.Context, q Question, now state, o StubOptions) (*RRset, error) {
	const wholeLookup = 4
	ctx, cancel := context.WithTimeout(ctx, wholeLookup*o.Timeout)
	defer cancel()
	servers := now.order()
	query := newQuery(dns.Fqdn(q.Name), uint16(q.Type), dns.ClassINET)
	var failed error
	for try := range max(len(servers), 2) {
		server := servers[try%len(servers)]
		answer, err := s.try(ctx, server, query, o, try)
		if err == nil {
			v := verdict{question: q, secure: slices.Contains(now.proven, server), now: time.Now()}
			var rrset *RRset
			if rrset, err = interpret(answer, v); err == nil {
				return rrset, nil
			}
			failed = err // what a resolver says is worth more than a time-out
		} else {
			if timedOut(err) {
				s.punish(server)
			}
			if failed == nil {
				failed = &Error{Question: q, Reason: server.String() + ": " + networkReason(err), Err: err}
			}
		}
		if ctx.Err() != nil || len(servers) == 1 && !timedOut(err) {
			break
		}
	}
	return nil, failed
}

func (s *Stub) try(ctx context.Context, server Server, query *dns.Msg, o StubOptions, try int) (*dns.Msg, error) {
	timeout := o.Timeout
	if try > 0 {
		timeout = timeout * 5 / 3
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	query = query.Copy()
	query.Id = dns.Id()
	if s.wire != nil {
		return s.wire.exchange(ctx, server, query)
	}
	return wire{roots: o.RootCAs}.exchange(ctx, server, query)
}

// punish has a server that timed out asked last for a while.
func (s *Stub) punish(server Server) {
	const penalty = 30 * time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.slow == nil {
		return
	}
	slow := map[Server]time.Time{server: time.Now().Add(penalty)}
	for other, until := range s.state.slow {
		if other != server {
			slow[other] = until
		}
	}
	s.state.slow = slow // replaced, not changed: snapshots share it
}

// order returns the servers in the order in which they are asked. Where some have passed the self-test, the others
// are left out: they may not validate, and what they answer would be weaker.
func (st state) order() []Server {
	servers := st.servers
	if st.result == Validating {
		servers = st.proven
	}
	now := time.Now()
	var quick, slow []Server
	for _, s := range servers {
		if now.Before(st.slow[s]) {
			slow = append(slow, s)
		} else {
			quick = append(quick, s)
		}
	}
	return append(quick, slow...)
}

// networkReason says in a few words why a server could not be asked.
func networkReason(err error) string {
	if timedOut(err) {
		return "timed out"
	}
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 && !errors.Is(err, context.Canceled) {
		text = text[i+2:]
	}
	return printable(text)
}
