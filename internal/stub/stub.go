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

// Options select the servers that a Stub asks, and when it trusts them.
type Options struct {
	// Servers are as ParseServer takes them; empty: those of ResolvConf.
	Servers []string
	// ResolvConf is the path of a resolv.conf(5), read again when it changes; "" means /etc/resolv.conf.
	ResolvConf string
	Trust      TrustMode
	// Timeout is how long the first query of a lookup waits, 3 s by default. See retryTimeout and lookupTimeout.
	Timeout time.Duration
	// SelfTestNames have a signed NS RRset, in order of preference; "." and "com." by default.
	SelfTestNames []string
	RootCAs       *x509.CertPool // the roots for DNS over TLS; nil means the system's roots
	// Observe, if not nil, is called after every query of a lookup, from many goroutines, and must not block. Rcode is
	// the answer's RCODE, which the server chooses, "timeout", or "error" for everything else.
	Observe func(t dns.Type, rcode string, took time.Duration)
	Logger  *slog.Logger
	Off     bool // send no queries other than those of Lookup
}

// retryTimeout is how long every further query of a lookup waits.
func (o *Options) retryTimeout() time.Duration { return o.Timeout * 5 / 3 }

// lookupTimeout is how long a whole lookup takes at most, the wait for the first self-test included.
func (o *Options) lookupTimeout() time.Duration { return o.Timeout * 4 }

// Stub asks the servers. See trust.go for when its answers are Secure.
type Stub struct {
	exchange      func(*server, context.Context, dnsmsg.Query, time.Time) (*dnsmsg.Answer, error)
	testRequested chan struct{} // holds an element if Run must repeat the self-test
	mu            sync.Mutex    // guards replacing current, and retestedAt
	retestedAt    time.Time     // when RetestSoon last had an effect
	current       atomic.Pointer[state]
	outages       atomic.Uint32 // outages that have ended, for all servers: dns.Epoch.Failures; never decreases
}

// state is what a lookup needs. It is replaced as a whole and never changed. The zero state trusts nothing.
type state struct {
	options Options
	list    []Server
	servers []*server // the servers of list, with their connections
	health  *health
	Outcome           // the outcome of the self-test
	checked time.Time // when a self-test last had a result
	tested  time.Time // when a self-test last ended, with or without a result
	passed  []*server // the servers that passed the self-test individually
	answers uint32    // dns.Epoch.Answers

	superseded context.Context // ends when another state has become the current one
	supersede  context.CancelFunc
}

// New returns a Stub. Lookups at trusted servers wait for the result of a self-test: see Run and SelfTest.
func New(o Options) (*Stub, error) {
	s := &Stub{exchange: (*server).exchange, testRequested: make(chan struct{}, 1)}
	s.current.Store(&state{supersede: func() {}})
	if err := s.Configure(o); err != nil {
		return nil, err
	}
	return s, nil
}

// Configure applies new options and makes Run repeat the self-test. The error is that of an invalid server, or of a
// resolv.conf that cannot be read. After an error the previous options remain effective.
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
	old := s.current.Load()
	if len(servers) == 0 && len(old.options.Servers) == 0 {
		servers = old.list // resolv.conf names none: it may be half written, as in followResolvConf
	}
	if len(servers) == 0 {
		servers = []Server{{Addr: netip.MustParseAddrPort("127.0.0.1:53")}} // as the C library does
	}
	s.use(o, servers)
	return nil
}

// requestSelfTest makes Run repeat the self-test.
func (s *Stub) requestSelfTest() {
	select {
	case s.testRequested <- struct{}{}:
	default:
	}
}

// use makes options and servers effective and repeats the self-test; s.mu is held. A change of the servers, of the
// roots for their certificates or of the trust in them begins a new epoch, with new connections and without a result of
// the self-test. Any other change keeps all of that.
func (s *Stub) use(o Options, servers []Server) {
	old := s.current.Load()
	trusted, reason := o.trusts(servers)
	wasTrusted := old.Result != NotTrusted
	sameServers := slices.Equal(servers, old.list)
	next := *old
	if !sameServers || trusted != wasTrusted || !o.RootCAs.Equal(old.options.RootCAs) {
		next = state{list: servers, servers: newServers(servers, o.RootCAs), answers: old.answers + 1}
		next.health = &health{outages: &s.outages}
		old.close()
		log := o.Logger.With("servers", strings.Join(names(servers), " "), "source", o.source())
		// After the change. No warning if the caller chose TrustNever, or if the same servers were not trusted before.
		if !trusted && o.Trust != TrustNever && (!sameServers || wasTrusted) {
			defer log.Warn("the DNS servers are not trusted; treating all answers as insecure", "reason", reason)
		}
		defer log.Info("using DNS servers", "trusted", trusted)
	}
	next.options = o
	if !trusted {
		next.Outcome = Outcome{NotTrusted, reason}
	}
	s.replace(next)
	s.requestSelfTest()
}

// replace makes another state the current one; s.mu is held.
func (s *Stub) replace(next state) {
	next.superseded, next.supersede = context.WithCancel(context.Background())
	old := s.current.Swap(&next)
	old.supersede()
}

// waitReplaced waits until another state is the current one, and returns false if ctx ends before.
func (st *state) waitReplaced(ctx context.Context) bool {
	select {
	case <-st.superseded.Done():
		return true
	case <-ctx.Done():
		return false
	}
}

// close closes all connections.
func (st *state) close() {
	for _, s := range st.servers {
		s.close()
	}
}

// Epoch returns the epoch that a lookup which begins now would have.
func (s *Stub) Epoch() dns.Epoch { return s.epoch(s.current.Load()) }

func (s *Stub) epoch(st *state) dns.Epoch {
	return dns.Epoch{Answers: st.answers, Failures: s.outages.Load()}
}

// Lookup asks the servers. The error is a *dns.Error, or dns.ErrNotCached with e.CacheOnly. Before the first self-test
// of trusted servers has a result there is no answer: Lookup waits for the result, as long as ctx allows, but at most
// 5/3 of Options.Timeout, so that the caller still has time to report the reason. If the servers or the trust in them
// change during a lookup, its result has a past epoch: ask again.
func (s *Stub) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	if e.CacheOnly { // a Stub has no cache
		return nil, dns.ErrNotCached
	}
	st := s.current.Load()
	query, ok := dnsmsg.NewQuery(q)
	if !ok {
		return nil, &dns.Error{Question: q, Reason: "not a domain name", Epoch: s.epoch(st), Err: ctx.Err()}
	}
	until := time.Now().Add(st.options.lookupTimeout())
	if st.Result == Unknown {
		limited, cancel := context.WithTimeout(ctx, st.options.retryTimeout())
		defer cancel()
		for st.Result == Unknown && st.waitReplaced(limited) {
			st = s.current.Load()
		}
	}
	if st.Result == Unknown {
		reason := "the self-test of the resolver has no result: " + cmp.Or(st.Reason, "it has not ended yet")
		return nil, &dns.Error{Question: query.Question(), Reason: reason, Epoch: s.epoch(st), Err: ctx.Err()}
	}
	return s.ask(ctx, st, query, until)
}
