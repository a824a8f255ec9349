// Package stub is a security-aware, non-validating stub resolver (RFC 4033 section 2) without a cache.
//
// It trusts the AD bit of a validating resolver only if the channel to that resolver is secure (RFC 4035 section 4.9.3)
// and a self-test has shown that the resolver validates.
package stub

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// Options say which servers a Stub asks and when it trusts them.
type Options struct {
	// Servers are as ParseServer takes them; empty: those of ResolvConf.
	Servers []string
	// ResolvConf is the path of a resolv.conf(5), read again when it changes; "" means /etc/resolv.conf.
	ResolvConf string
	Trust      TrustMode
	// Timeout is for the first try of a query, 3 s by default. The next try has 5/3 of it, a lookup 4 times.
	Timeout time.Duration
	// SelfTestNames have a signed NS RRset, in order of preference; "." and "com." by default.
	SelfTestNames []string
	RootCAs       *x509.CertPool // for DNS over TLS; nil means the system's roots
	// Observe, if not nil, is called after every query of a lookup, from many goroutines, and must not block. Rcode is
	// the answer's RCODE, which the server chooses, "timeout", or "error" for everything else.
	Observe func(t dns.Type, rcode string, took time.Duration)
	Logger  *slog.Logger
	Off     bool // send no queries other than those of Lookup
}

// Stub asks the servers. Its answers are Secure only if every server is trusted, the self-test has shown that the
// server validates, and the answer has the AD bit.
type Stub struct {
	exchange func(*server, context.Context, dnsmsg.Query, time.Time) (*dnsmsg.Answer, error)
	change   chan struct{} // holds an element if Run must repeat the self-test
	mu       sync.Mutex    // guards the replacing of now, and doubted
	doubted  time.Time     // when Doubt last had an effect
	now      atomic.Pointer[state]
	outages  atomic.Uint32 // outages of all lists of servers that have ended: dns.Epoch.Failures, which never decreases
}

// state is what a lookup needs. It is replaced as a whole and never changed. The zero state trusts nothing.
type state struct {
	options Options
	list    []Server
	servers []*server // those of the list, with their connections
	health  *health
	Outcome           // of the self-test
	checked time.Time // when a self-test last had a result
	tested  time.Time // when a self-test last ended, also one without a result
	passed  []*server // those that passed the self-test, each for itself; their AD bit counts if Result is Validating
	answers uint32    // dns.Epoch.Answers

	inForce context.Context // ends when another state is in force
	end     context.CancelFunc
}

// New returns a Stub. Lookups at trusted servers wait for the result of a self-test: see Run and SelfTest.
func New(o Options) (*Stub, error) {
	s := &Stub{exchange: (*server).exchange, change: make(chan struct{}, 1)}
	s.now.Store(&state{end: func() {}})
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
	servers, err := serversOf(o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.now.Load(); len(servers) == 0 && len(old.options.Servers) == 0 {
		servers = old.list // as in followResolvConf
	}
	if len(servers) == 0 {
		servers = []Server{{Addr: netip.MustParseAddrPort("127.0.0.1:53")}} // as the C library does
	}
	s.use(o, servers)
	return nil
}

// retest makes Run repeat the self-test.
func (s *Stub) retest() {
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// use makes options and servers effective and repeats the self-test; s.mu is held. A change of the servers, of the
// roots for their certificates or of the trust in them begins a new epoch.
func (s *Stub) use(o Options, servers []Server) {
	old := s.now.Load()
	next := *old
	trusted, reason := o.trusts(servers)
	same, before := slices.Equal(servers, old.list), old.Result != NotTrusted
	if !same || trusted != before || !o.RootCAs.Equal(old.options.RootCAs) {
		next = state{list: servers, servers: open(servers, o.RootCAs), answers: old.answers + 1}
		next.health = &health{outages: &s.outages}
		old.close()
		log := o.Logger.With("servers", strings.Join(names(servers), " "), "source", o.source())
		log.Info("using DNS servers", "trusted", trusted)
		// TrustNever is a decision of the caller, and a lack of trust in the same servers is known.
		if !trusted && o.Trust != TrustNever && (!same || before) {
			log.Warn("the DNS servers are not trusted; treating all answers as insecure", "reason", reason)
		}
	}
	if next.options = o; !trusted {
		next.Outcome = Outcome{NotTrusted, reason}
	}
	s.replace(next)
	s.retest()
}

// replace puts another state in force; s.mu is held.
func (s *Stub) replace(next state) {
	next.inForce, next.end = context.WithCancel(context.Background())
	s.now.Swap(&next).end()
}

// close closes all connections.
func (st *state) close() {
	for _, s := range st.servers {
		s.close()
	}
}

// Epoch returns the epoch that a lookup which begins now would have.
func (s *Stub) Epoch() dns.Epoch { return s.epoch(s.now.Load()) }

func (s *Stub) epoch(st *state) dns.Epoch {
	return dns.Epoch{Answers: st.answers, Failures: s.outages.Load()}
}

// Lookup asks the servers. The error is a *dns.Error, or dns.ErrNotCached with e.CacheOnly. Before the first
// self-test of trusted servers has a result there is no answer: Lookup waits for it, as long as ctx allows and 5/3 of
// Options.Timeout. Then the caller still has time to learn the reason. If the servers or the trust in them change
// during a lookup, its result has a past epoch: ask again.
func (s *Stub) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	if e.CacheOnly { // it has no cache
		return nil, dns.ErrNotCached
	}
	now := s.now.Load()
	fail := func(reason string) (*dns.RRset, error) {
		return nil, &dns.Error{Question: q, Reason: reason, Epoch: s.epoch(now), Err: ctx.Err()}
	}
	query, ok := dnsmsg.NewQuery(q)
	if !ok {
		return fail("not a domain name")
	}
	q = query.Question()
	const wholeLookup = 4
	until := time.Now().Add(wholeLookup * now.options.Timeout)
	if now.Result == Unknown {
		limited, cancel := context.WithTimeout(ctx, now.options.Timeout*5/3)
		defer cancel()
		for ; now.Result == Unknown; now = s.now.Load() {
			if !now.replaced(limited) {
				reason := cmp.Or(now.Reason, "it has not ended yet")
				return fail("the self-test of the resolver has no result: " + reason)
			}
		}
	}
	return s.ask(ctx, query, now, until)
}

// replaced waits until another state is in force, and returns false if ctx ends before.
func (st *state) replaced(ctx context.Context) bool {
	select {
	case <-st.inForce.Done():
		return true
	case <-ctx.Done():
		return false
	}
}
