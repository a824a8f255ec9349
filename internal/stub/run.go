package stub

import (
	"context"
	"slices"
	"sync"
	"time"
)

// The self-test is repeated with back-off until every server has passed, and then every ten minutes.
const (
	selfTestSoon  = time.Second
	selfTestLate  = 30 * time.Second
	selfTestAgain = 10 * time.Minute
	// emptyConf is how often in succession a resolv.conf without a server is ignored: it may be half written.
	emptyConf = 3
)

// Run tests the servers, watches those that fail, reads resolv.conf again when it changes, and returns when ctx ends.
func (s *Stub) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	watch.Go(func() { s.watch(ctx) })
	defer watch.Wait()
	defer func() { s.now.Load().transport.close() }()
	select {
	case <-s.change: // the first test starts now anyway
	default:
	}
	test := time.NewTimer(0)
	defer test.Stop()
	wait := selfTestSoon
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.change:
			wait = selfTestSoon
			test.Reset(0)
		case <-test.C:
			if s.SelfTest(ctx) {
				wait = selfTestSoon
				test.Reset(selfTestAgain)
			} else {
				test.Reset(wait)
				wait = min(2*wait, selfTestLate)
			}
		}
	}
}

// followResolvConf uses the servers of resolv.conf if they have changed. If the file cannot be read the
// servers stay as they are, and also, for a while, if it is missing or names no server.
func (s *Stub) followResolvConf() {
	o := s.now.Load().options
	if len(o.Servers) > 0 {
		return
	}
	servers, source, err := serversOf(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now.Load()
	if err != nil || len(now.options.Servers) > 0 || now.options.ResolvConf != o.ResolvConf {
		return
	}
	if len(servers) > 0 {
		s.serverless = 0
	} else if s.serverless++; s.serverless < emptyConf {
		return
	} else {
		servers = onThisMachine()
	}
	if slices.Equal(servers, now.servers) {
		return
	}
	s.use(now.options, servers, source)
	s.testAgain()
}
