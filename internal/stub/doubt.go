package stub

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// recentTest is how long a self-test and a doubt count.
const recentTest = 10 * time.Second

// Doubt makes Run repeat the self-test soon: an answer was insecure although the last answer to the same question is
// secure. The owner of a zone can cause that too, so it has no effect for ten seconds after it had one.
func (s *Stub) Doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.doubted) >= recentTest {
		s.doubted = time.Now()
		s.retest()
	}
}

// Validates reports whether the servers pass the self-test now, which Run repeats for it. A test that ended in the last
// ten seconds counts, and so does an earlier result if this test has none. With e.CacheOnly the error is
// dns.ErrNotCached if a test is due.
func (s *Stub) Validates(ctx context.Context, e dns.Effort) (bool, error) {
	for {
		now := s.now.Load()
		if now.Result == NotTrusted || time.Since(now.tested) < recentTest {
			return now.Result == Validating, nil
		}
		if e.CacheOnly {
			return false, dns.ErrNotCached
		}
		s.Doubt()
		if !now.replaced(ctx) {
			return now.Result == Validating, nil
		}
	}
}
