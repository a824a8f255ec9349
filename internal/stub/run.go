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
	selfTestSoon  = time.Second
	selfTestLate  = 30 * time.Second
	selfTestAgain = 10 * time.Minute
	watchInterval = 2 * time.Second // how often servers that do not answer are tried again
)

// Run tests the servers, watches those that fail, reads resolv.conf again when it changes, and returns when ctx ends.
func (s *Stub) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	watch.Go(func() { s.watch(ctx) })
	defer watch.Wait()
	defer func() { s.now.Load().close() }()
	s.retest()
	wait := selfTestSoon
	var next <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.change:
			wait = selfTestSoon
		case <-next:
		}
		if s.SelfTest(ctx) {
			wait, next = selfTestSoon, time.After(selfTestAgain)
		} else {
			wait, next = min(2*wait, selfTestLate), time.After(wait)
		}
	}
}

// followResolvConf uses the servers of resolv.conf if they have changed. If the file cannot be read, is missing or
// names no server, the servers stay as they are: it may be half written.
func (s *Stub) followResolvConf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now.Load()
	servers, err := serversOf(now.options)
	if len(now.options.Servers) == 0 && err == nil && len(servers) > 0 && !slices.Equal(servers, now.list) {
		s.use(now.options, servers)
	}
}

// watch reads resolv.conf and watches the servers, every two seconds until ctx ends.
func (s *Stub) watch(ctx context.Context) {
	for tick := time.Tick(watchInterval); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			s.followResolvConf()
			if now := s.now.Load(); !now.options.Off {
				s.watchServers(ctx, now)
			}
		}
	}
}

// watchServers asks all servers a question of our own if one of them did not answer, or was late, and while lookups
// fail: names that back off would not be asked for.
func (s *Stub) watchServers(ctx context.Context, now *state) {
	began := time.Now()
	doubt, questions := now.health.doubtful()
	if !doubt {
		return
	}
	var all sync.WaitGroup
	var sound atomic.Bool
	for _, server := range now.servers {
		all.Go(func() {
			if !s.watchServer(ctx, now, server) || !slices.Contains(now.candidates(), server) {
				return
			}
			sound.Store(true)
			for _, q := range questions {
				all.Go(func() {
					query, _ := dnsmsg.NewQuery(q)
					answer, err := s.send(ctx, now, server, query)
					if err == nil && answer.Useful() {
						now.health.succeeded()
					}
				})
			}
		})
	}
	all.Wait()
	if ctx.Err() == nil {
		now.health.watched(began, sound.Load())
	}
}

// watchServer asks one server a question of our own, and reports whether the answer is useful.
func (s *Stub) watchServer(ctx context.Context, now *state, server *server) bool {
	query, _ := dnsmsg.NewQuery(dns.Question{Name: now.options.SelfTestNames[0], Type: dns.TypeNS})
	answer, took, err := s.query(ctx, now, server, query, time.Now(), now.options.Timeout)
	log := now.options.Logger.With("server", server.String())
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		if server.logs("silent") {
			log.Warn("a DNS server does not answer", "reason", networkReason(err))
		}
	case took >= slowAnswer:
		if server.logs("late") {
			log.Warn("a DNS server answers late", "took", took.Round(time.Millisecond))
		}
	case server.logs(""):
		log.Info("a DNS server answers in time again")
	}
	return err == nil && answer.Useful()
}

// logs reports whether to log a problem that the server has now, or with "" that it answers in time again. Only one
// goroutine at a time calls it.
func (s *server) logs(problem string) (log bool) {
	if log = problem != s.logged; log && problem != "" {
		_, log = s.limit.Due()
	}
	if log {
		s.logged = problem
	}
	return log
}
