// Package stub is a security-aware, non-validating stub resolver (RFC 4033 section 2) without a cache.
//
// It trusts the AD bit of a validating resolver only if the channel to that resolver is secure (RFC 4035 section 4.9.3)
// and a self-test has shown that the resolver validates.
package stub

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// Options say which servers a Stub asks and when it trusts them.
type Options struct {
	// Servers are as ParseServer takes them, three at most; empty: those of ResolvConf.
	Servers []string
	// ResolvConf is the path of a resolv.conf(5), read again when it changes; "" means /etc/resolv.conf.
	ResolvConf string
	Trust      TrustMode
	// Timeout is for the first try of a query, 3 s by default. The next try has 5/3 of it, a lookup 4 times.
	Timeout time.Duration
	// SelfTestNames have a signed NS RRset, in order of preference; "." and "com." by default.
	SelfTestNames []string
	// RootCAs are for DNS over TLS; nil means the system's roots.
	RootCAs *x509.CertPool
	// Observe, if not nil, is called after every query of a lookup, but not for queries of the self-test. It is called
	// from many goroutines and must not block.
	Observe func(QueryEvent)
	Logger  *slog.Logger
}

// QueryEvent is a query to a server that has ended.
type QueryEvent struct {
	Type dns.Type
	// Rcode is the answer's RCODE, which the server chooses, "timeout", or "error" for everything else.
	Rcode string
	Took  time.Duration
}

// Stub is a security-aware, non-validating stub resolver (RFC 4033 section 2) without a cache. Its answers are Secure
// only if every server is trusted, the self-test has shown that the server validates, and the answer has the AD bit.
type Stub struct {
	exchange func(*transport, context.Context, Server, miekg.Question, time.Time) (*miekg.Msg, error)
	change   chan struct{}
	testing  chan struct{} // holds an element while a self-test runs
	now      atomic.Pointer[state]
	outages  atomic.Uint32 // outages of all lists of servers that have ended: dns.Epoch.Failures, which never decreases

	mu         sync.Mutex // guards the replacing of now, and what follows
	serverless int        // how often in succession resolv.conf had no server
	doubted    time.Time  // when Doubt last caused a self-test
}

// state is what a lookup needs. It is replaced as a whole and never changed. The zero state trusts nothing.
type state struct {
	options   Options
	servers   []Server
	source    string
	transport *transport
	health    *health
	trusted   bool
	outcome
	checked time.Time
	passed  []Server // those that passed the self-test, each for itself; their AD bit counts if result is Validating
	answers uint32   // dns.Epoch.Answers

	replaced chan struct{} // closed when another state is in force
}

// New returns a Stub. Lookups at trusted servers wait for the result of a self-test: see Run and SelfTest.
func New(o Options) (*Stub, error) {
	s := &Stub{exchange: (*transport).exchange, change: make(chan struct{}, 1), testing: make(chan struct{}, 1)}
	s.now.Store(&state{transport: newTransport(nil), replaced: make(chan struct{})})
	if err := s.Configure(o); err != nil {
		return nil, err
	}
	return s, nil
}

// Configure applies new options and makes Run repeat the self-test. After an error the previous options remain
// effective.
func (s *Stub) Configure(o Options) error {
	o.Timeout = cmp.Or(max(o.Timeout, 0), 3*time.Second)
	o.ResolvConf = cmp.Or(o.ResolvConf, "/etc/resolv.conf")
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if len(o.SelfTestNames) == 0 {
		o.SelfTestNames = []string{".", "com."}
	}
	for _, name := range o.SelfTestNames {
		if _, ok := dns.OnWire(name); !ok {
			return fmt.Errorf(
				`stub: %q is not a domain name: the self-test needs names with a signed NS RRset, such as "."`,
				name)
		}
	}
	servers, source, err := serversOf(o)
	if err != nil {
		return err
	}
	if len(servers) == 0 {
		servers = onThisMachine()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.use(o, servers, source)
	s.testAgain()
	return nil
}

// Doubt makes Run repeat the self-test soon: an answer was insecure although the last answer to the same question is
// secure. The owner of a zone can cause that too, so it has no effect for ten seconds after it had one.
func (s *Stub) Doubt() {
	const pause = 10 * time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.doubted) >= pause {
		s.doubted = now
		s.testAgain()
	}
}

// testAgain makes Run repeat the self-test now.
func (s *Stub) testAgain() {
	select {
	case s.change <- struct{}{}:
	default:
	}
}

func serversOf(o Options) (servers []Server, source string, err error) {
	if len(o.Servers) == 0 {
		servers, err = readResolvConf(o.ResolvConf)
		return servers, o.ResolvConf, err
	}
	if len(o.Servers) > maxServers {
		return nil, "", fmt.Errorf("stub: %d servers, and at most %d are used: leave some out", len(o.Servers),
			maxServers)
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

// use makes options and servers effective; s.mu is held. A change of the servers, of the roots for their certificates
// or of the trust in them begins a new epoch.
func (s *Stub) use(o Options, servers []Server, source string) {
	old := s.now.Load()
	first, same := len(old.servers) == 0, slices.Equal(servers, old.servers)
	trusted, reason := o.trusts(servers)
	next := *old
	next.options, next.source = o, source
	if !trusted {
		next.outcome = outcome{NotTrusted, reason}
	}
	if same && trusted == old.trusted && o.RootCAs.Equal(old.options.RootCAs) {
		s.replace(next)
		return
	}
	list := serverList(servers)
	if !first {
		o.Logger.Info("DNS servers or the trust in them changed", "servers", list, "source", source, "trusted", trusted)
	}
	// TrustNever is a decision of the caller, and a lack of trust in the same servers is known.
	if !trusted && o.Trust != TrustNever && (old.trusted || !same) {
		o.Logger.Warn("the DNS servers are not trusted; treating all answers as insecure",
			"servers", list, "source", source, "reason", reason)
	}
	if trusted {
		next.outcome = outcome{}
	}
	next.servers, next.trusted, next.checked, next.passed = servers, trusted, time.Time{}, nil
	next.answers++
	next.transport, next.health = newTransport(o.RootCAs), newHealth(servers, &s.outages)
	old.transport.close()
	s.replace(next)
}

// replace puts another state in force; s.mu is held.
func (s *Stub) replace(next state) {
	old := s.now.Load()
	next.replaced = make(chan struct{})
	s.now.Store(&next)
	close(old.replaced)
}

func serverList(servers []Server) string { return strings.Join(texts(servers), " ") }

func texts(servers []Server) (list []string) {
	for _, s := range servers {
		list = append(list, s.String())
	}
	return list
}

// Epoch returns the epoch that a lookup which begins now would have.
func (s *Stub) Epoch() dns.Epoch { return s.epoch(s.now.Load()) }

func (s *Stub) epoch(st *state) dns.Epoch {
	return dns.Epoch{Answers: st.answers, Failures: s.outages.Load()}
}

// Lookup asks the servers. The error is a *dns.Error, or dns.ErrNotCached with e.CacheOnly. Before the first
// self-test of trusted servers has a result there is no answer: Lookup waits for it, as long as ctx and the time of a
// lookup allow.
func (s *Stub) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	if e.CacheOnly {
		return nil, dns.ErrNotCached
	}
	before := s.Epoch()
	if ctx.Err() != nil {
		return nil, &dns.Error{Question: q, Reason: "no time left", Epoch: before, Err: ctx.Err()}
	}
	fqdn, ok := dns.OnWire(q.Name)
	if !ok {
		return nil, &dns.Error{Question: q, Reason: "not a domain name", Epoch: before}
	}
	if name := dns.TrimRoot(fqdn); name != q.Name { // else keep the caller's string, which the answer shares
		q.Name = name
	}
	const tries, wholeLookup = 2, 4
	until := time.Now().Add(wholeLookup * s.now.Load().options.Timeout)
	for range tries {
		now, reason := s.tested(ctx, until)
		if now == nil {
			reason = "the self-test of the resolver has no result: " + reason
			return nil, &dns.Error{Question: q, Reason: reason, Epoch: before, Err: ctx.Err()}
		}
		before = s.epoch(now)
		rrset, err := s.ask(ctx, q, now, until)
		if failure, ok := errors.AsType[*dns.Error](err); ok {
			failure.Epoch = before
			return nil, failure
		}
		if s.now.Load().answers == before.Answers {
			rrset.Epoch = before.Answers
			return rrset, nil
		}
		// The servers or the trust in them changed during this lookup: its answer no longer counts, so ask again.
	}
	return nil, &dns.Error{Question: q, Reason: "the DNS servers keep changing", Epoch: before}
}

// tested waits until the self-test has a result, and returns nil and a reason if it has none by then.
func (s *Stub) tested(ctx context.Context, until time.Time) (now *state, reason string) {
	for {
		now = s.now.Load()
		if now.result != Unknown {
			return now, ""
		}
		limited, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		select {
		case <-now.replaced:
		case <-limited.Done():
			if reason = s.now.Load().reason; reason == "" {
				reason = "it has not ended yet"
			}
			return nil, reason
		}
	}
}
