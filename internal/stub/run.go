package stub

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// The self-test is repeated with back-off until every server has passed, and then every ten minutes.
const (
	minTestBackOff = time.Second
	maxTestBackOff = 30 * time.Second
	testInterval   = 10 * time.Minute
	watchInterval  = 2 * time.Second // how often resolv.conf is read, and servers that do not answer are tried again
)

// Run tests the servers, watches those that fail, reads resolv.conf again when it changes, and returns when ctx ends.
func (s *Stub) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	watch.Go(func() { s.watch(ctx) })
	defer watch.Wait()
	defer func() { s.current.Load().close() }()
	s.requestSelfTest()
	wait := minTestBackOff // after the next test if not all servers pass it
	var next <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.testRequested:
			wait = minTestBackOff
		case <-next:
		}
		if s.SelfTest(ctx) {
			next = time.After(testInterval)
			wait = minTestBackOff
		} else {
			next = time.After(wait)
			wait = min(2*wait, maxTestBackOff)
		}
	}
}

// followResolvConf uses the servers of resolv.conf if they have changed. If the file cannot be read, is missing or
// names no server, the servers stay as they are: it may be half written.
func (s *Stub) followResolvConf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.current.Load()
	servers, err := serversOf(st.options)
	if len(st.options.Servers) == 0 && err == nil && len(servers) > 0 && !slices.Equal(servers, st.list) {
		s.use(st.options, servers)
	}
}

// watch reads resolv.conf and watches the servers, every two seconds until ctx ends.
func (s *Stub) watch(ctx context.Context) {
	tick := time.Tick(watchInterval)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			s.followResolvConf()
			if st := s.current.Load(); !st.options.Off {
				s.watchServers(ctx, st)
			}
		}
	}
}

// watchServers sends every server a query of our own if one did not answer or was late, or while lookups fail.
// Otherwise an outage would seem to continue, because the cache does not repeat failed lookups during their back-off.
// The servers that answer are also asked the questions of needsCheck.
func (s *Stub) watchServers(ctx context.Context, st *state) {
	began := time.Now()
	needed, failedQuestions := st.health.needsCheck()
	if !needed {
		return
	}
	var queries sync.WaitGroup
	var useful atomic.Bool
	for _, server := range st.servers {
		queries.Go(func() {
			answers := s.watchServer(ctx, st, server)
			if !answers || !slices.Contains(st.candidates(), server) {
				return
			}
			useful.Store(true)
			for _, q := range failedQuestions {
				queries.Go(func() { s.repeat(ctx, st, server, q) })
			}
		})
	}
	queries.Wait()
	if ctx.Err() == nil {
		st.health.noteOwnQuery(began, useful.Load())
	}
}

// repeat asks a server a question that has failed. A useful answer is a success.
func (s *Stub) repeat(ctx context.Context, st *state, server *server, q dns.Question) {
	query, _ := dnsmsg.NewQuery(q)
	answer, err := s.send(ctx, st, server, query)
	if err == nil && answer.Useful() {
		st.health.succeeded()
	}
}

// watchServer sends one server a query of our own, and reports whether the answer is useful. It logs when the server
// stops answering, is late, and answers in time again.
func (s *Stub) watchServer(ctx context.Context, st *state, server *server) bool {
	query, _ := dnsmsg.NewQuery(dns.Question{Name: st.options.SelfTestNames[0], Type: dns.TypeNS})
	answer, took, err := s.query(ctx, st, server, query, time.Now(), st.options.Timeout)
	log := st.options.Logger.With("server", server.String())
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		if server.mustLog("silent") {
			log.Warn("a DNS server does not answer", "reason", networkReason(err))
		}
	case took >= slowAnswer:
		if server.mustLog("late") {
			log.Warn("a DNS server answers late", "took", took.Round(time.Millisecond))
		}
	default:
		if server.mustLog("") {
			log.Info("a DNS server answers in time again")
		}
	}
	return err == nil && answer.Useful()
}

// mustLog notes the problem that the server has now, "" for none, and reports whether to log it: it differs from
// the one logged last, and no problem was logged in the last minute. Only one goroutine at a time calls it.
func (s *server) mustLog(problem string) bool {
	if problem == s.logged {
		return false
	}
	if problem != "" {
		if _, due := s.limit.Due(); !due {
			return false
		}
	}
	s.logged = problem
	return true
}
