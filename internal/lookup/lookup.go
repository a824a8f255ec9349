// Package lookup answers socketmap requests (socketmap_table(5)): it reads the key, gets the decision from package
// policy and replies. Here a time budget, a panic or a full queue ends in a safe answer: TEMP for a TLS policy,
// NOTFOUND for a route.
package lookup

import (
	"context"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// Settings are what a reload can change.
type Settings struct {
	Policy policy.Options
	Wait   time.Duration // the longest that a transport lookup takes
	Log    LogMode
}

// Sources are where a Service gets its facts, and what it reports to. No function may block. Those after Version may be
// nil.
type Sources struct {
	// Engine finds decisions. Its Resolver has a cache, and uses only the cache if dns.Effort.CacheOnly is set.
	gather.Engine
	// Version changes whenever an answer of Resolver or STS may have changed, except by its expiry. 0: no memo.
	Version func() uint64
	// Promised is called with what a TLS-policy lookup shows about the promises of a domain.
	Promised func(domain string, found promises.Answer)
	// WantProbe makes a host due for a probe. It is called after TLS-policy lookups only: those are for mail that
	// leaves, while untrusted senders choose the domains of the transport map.
	WantProbe func(host string)
	// Record is called for each TLS-policy lookup that was decided. The function that it returns is called each time
	// that the memo reuses the answer.
	Record func(report.Lookup) (repeated func())
	// Observe is called once for every kind of answer, and observed with the duration of each answer of that kind.
	Observe func(Kind) (observed func(took time.Duration))
}

// Kind is a kind of answers, for metrics. Every field has a small fixed set of values.
type Kind struct {
	Map    string // tls-policy, tls-policy-tlsrpt or transport; an alias counts as what it stands for
	Status string // the status word of the reply
	Cached bool   // no query and no wait was needed
	// Source, Class and Reason are those of the Decision. They are empty if there was none: the key was not a next hop,
	// or the mode is off.
	Source, Class, Reason string
	Unsigned              bool // a policy rests on an unsigned MX RRset
}

// Service answers lookups. Make one with New.
type Service struct {
	sources Sources
	began   time.Time // the time since then is cheaper to read than the time of day
	current atomic.Pointer[settingsAndMemo]
	log     *slog.Logger
	changes changes
	relayed oncelog.Limiter // limits the warning about relay hosts that cannot be looked up
	panics  atomic.Uint64
	background

	mu       sync.Mutex // guards what follows
	kinds    map[Kind]*counter
	unknown  map[string]UnknownMap
	unknowns uint64 // requests for unknown maps
}

// New returns a Service that answers from src under set. Run looks up the routes that are not in the cache.
func New(src Sources, set Settings, log *slog.Logger) *Service {
	src.Hosts = gather.NewHosts()
	s := &Service{
		sources: src, began: time.Now(), log: log, kinds: map[Kind]*counter{}, unknown: map[string]UnknownMap{},
		changes: changes{seed: maphash.MakeSeed(), limit: rate.NewLimiter(linesPerSecond, linesBurst)},
		background: background{
			waiting: semaphore.NewWeighted(waitingRequests), queue: make(chan *job, backgroundQueue),
			jobs: map[policy.Nexthop]*job{},
		},
	}
	s.Configure(set)
	return s
}

// Configure applies new settings to all requests that begin after it.
func (s *Service) Configure(set Settings) {
	s.current.Store(&settingsAndMemo{Settings: set, seed: maphash.MakeSeed()})
}

// ServeSocketmap implements socketmap.Handler: it answers a request for one of the maps, and counts the answer.
func (s *Service) ServeSocketmap(ctx context.Context, req socketmap.Request) socketmap.Reply {
	c := &call{ctx: ctx, m: CanonicalMap(req.Map), key: req.Key, set: s.current.Load(), arrived: time.Since(s.began)}
	switch c.m {
	case "":
		return s.unknownMap(req.Map)
	case transport:
		c.key = c.key[strings.LastIndexByte(c.key, '@')+1:] // the local part of the address ends here
	}
	a := s.answer(c)
	a.counter.n.Add(1)
	if a.counter.observe != nil {
		a.counter.observe(time.Since(s.began) - c.arrived)
	}
	return c.set.Policy.Mode.Reply(a.reply)
}

// call is a lookup in one of the maps.
type call struct {
	ctx     context.Context
	m       string // tls-policy, tls-policy-tlsrpt or transport
	key     string
	set     *settingsAndMemo
	arrived time.Duration // when the request came, after Service.began
	warm    bool          // called by Warm: neither recorded nor remembered
}

// nexthop returns the next hop that the key names. It returns false if the answer is NOTFOUND whatever the facts are.
func (c *call) nexthop() (next policy.Nexthop, ok bool) {
	o := &c.set.Policy
	switch {
	case o.Mode == policy.ModeOff:
		return next, false
	case c.m == transport:
		next.Port = prefix.SMTPPort
		next.Name, ok = policy.ParseName(c.key)
		return next, ok && o.Port26Mode != policy.PortOff
	default:
		return policy.ParseNexthop(c.key, o.Port26)
	}
}

// answered is the answer to a call. The fields that are read when the answer is reused come first, so that they take
// few cache lines of the processor.
type answered struct {
	// Set when the memo keeps the answer, which does not change after that: the map and the key that it answers, the
	// version of the sources that it rests on, and until when it is reused.
	m, key  string
	version uint64
	until   time.Duration

	reply    socketmap.Reply // the reply with mode = "enforce"
	counter  *counter
	repeated func() // what Sources.Record has returned; nil: nothing is recorded
	// probe are the hosts that a route could lead to once their port of implicit TLS is open.
	probe []string

	next     policy.Nexthop // the next hop of decision; zero if there was none
	decision policy.Decision
	cached   bool
}

// answer returns an answer from the memo or a new one. It turns a panic into TEMP, or into NOTFOUND for a route.
func (s *Service) answer(c *call) (a *answered) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(c.m, p)
			a = &answered{reply: socketmap.Temp("internal error")}
			if c.m == transport {
				a.reply = socketmap.NotFound()
			}
		}
		if a.counter == nil {
			a.counter = s.counterOf(c, a)
		}
	}()
	a = c.set.recall(c, s.sources.Version())
	if a == nil {
		a = s.decide(c)
	} else {
		s.logDecision(c, a, true)
		if a.repeated != nil {
			a.repeated()
		}
	}
	s.wantProbes(c, a)
	return a
}

// decide finds the answer from what is known where that is enough. Otherwise it waits: for a TLS policy within the
// budget, and for a route never longer than Wait, because no mail moves while qmgr(8) waits. A decision is logged. The
// memo keeps it if its facts were known and are lasting.
func (s *Service) decide(c *call) *answered {
	a := &answered{reply: socketmap.NotFound()}
	next, ok := c.nexthop()
	if !ok {
		a.cached = true
		return a
	}
	isRoute := c.m == transport
	decider := policy.Decide
	if isRoute {
		decider = policy.Route
	}
	// What is kept of the request must not keep all of it in memory: there may be a local part.
	c.key, next.Name = strings.Clone(c.key), strings.Clone(next.Name)
	version := s.sources.Version()
	facts := policy.NewFacts(next)
	d, err := s.sources.Decide(c.ctx, decider, facts, c.set.Policy, dns.Effort{CacheOnly: true, Untrusted: isRoute})
	a.cached = err == nil
	switch {
	case a.cached:
	case isRoute:
		d, ok = s.waitForRoute(c, next)
		if !ok {
			return a
		}
	default:
		ctx, cancel := context.WithTimeout(c.ctx, gather.Budget)
		defer cancel()
		d, _ = s.sources.Decide(ctx, decider, facts, c.set.Policy, dns.Effort{}) // a failure is a fact
	}
	a.next, a.decision, a.reply = next, d, d.Reply(c.set.Policy, c.m == tlsPolicyTLSRPT)
	a.counter = s.counterOf(c, a)
	if !isRoute {
		s.afterTLSPolicy(c, a, facts)
	}
	s.logDecision(c, a, false)
	if a.cached && !c.warm && lasting(facts, d) {
		c.set.keep(c, a, version, facts.Expires)
	}
	return a
}

// Warm evaluates a domain as for mail to it, and returns the status word of the answer with mode "enforce" and the
// source of the decision. It fills the caches and the memory of promises, and is not counted as a lookup.
func (s *Service) Warm(ctx context.Context, domain string) (status, source string) {
	a := s.decide(&call{ctx: ctx, m: tlsPolicy, key: domain, set: s.current.Load(), warm: true})
	return a.reply.Status.String(), string(a.decision.Source())
}
