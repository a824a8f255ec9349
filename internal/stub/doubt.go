package stub

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// recentTest is how long the result of a self-test counts as recent, and how long a doubt is not followed by another.
const recentTest = 10 * time.Second

// Doubt makes Run repeat the self-test soon. It is called when an answer is insecure although the last answer to the
// same question is secure. The owner of a zone can cause that too, so Doubt has an effect at most once in ten seconds.
func (s *Stub) Doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.doubted) >= recentTest {
		s.doubted = time.Now()
		s.retest()
	}
}

// Validates reports whether the servers pass the self-test now. If the last test ended more than ten seconds ago, it
// waits until Run has repeated it; if that test has no result, the earlier result counts. With e.CacheOnly it does not
// wait, and the error is dns.ErrNotCached.
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
