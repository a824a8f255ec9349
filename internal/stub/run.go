package stub

import (
	"context"
	"slices"
	"sync"
	"time"
)

// The self-test is repeated after these times: with back-off until every server has passed, then now and again.
const (
	selfTestSoon  = time.Second
	selfTestLate  = 30 * time.Second
	selfTestAgain = 10 * time.Minute
	confInterval  = 2 * time.Second
	// confPatience is how many looks at a resolv.conf without a server are taken for a moment in its rewriting.
	confPatience = 3
)

// Run tests the servers, follows resolv.conf and returns when ctx ends.
func (s *Stub) Run(ctx context.Context) error {
	var follow sync.WaitGroup
	follow.Go(func() {
		conf := time.NewTicker(confInterval)
		defer conf.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-conf.C:
				s.followResolvConf()
			}
		}
	})
	follow.Go(func() { s.watch(ctx) })
	defer follow.Wait()
	select {
	case <-s.change: // the first test comes at once anyway
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

// followResolvConf takes the servers of the resolv.conf if they have changed. A file that cannot be read leaves the
// servers as they are, and so does, for a while, one that is missing or names no server: it is being written.
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
	} else if s.serverless++; s.serverless < confPatience {
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
