package postfix

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	// lookRound is the interval in which Run checks for a changed file or address, and tries again after a failure.
	lookRound = 2 * time.Second
	// longestRead is the timeout for all commands of one reading.
	longestRead = 30 * time.Second
)

// Run keeps the data fresh until ctx ends: it reads everything again when a file or an address of this machine has
// changed, after Configure, after a failure, and once per Refresh.
func (s *Site) Run(ctx context.Context) error {
	tick := time.NewTicker(lookRound)
	defer tick.Stop()
	for {
		if v := s.current.Load(); v == nil || s.due(v) {
			_, _ = s.read(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.change:
		case <-tick.C:
		}
	}
}

func (s *Site) due(v *view) bool {
	age := time.Since(v.read)
	if v.err != nil && age >= lookRound || age >= s.options().Refresh {
		return true
	}
	if v.changed() {
		// The old lists are void immediately, not only when the new ones have been read.
		s.current.CompareAndSwap(v, nil)
		s.tables.flush()
		return true
	}
	return false
}

// knowledge returns the latest view while it is fresh. Otherwise it reads a new one, or returns dns.ErrNotCached if it
// may not wait.
func (s *Site) knowledge(ctx context.Context, wait bool) (*view, error) {
	if v := s.current.Load(); v != nil && s.fresh(v) {
		return v, v.err
	}
	if !wait {
		return nil, dns.ErrNotCached
	}
	return s.read(ctx)
}

// fresh bounds the age of a view, whether or not Run works.
func (s *Site) fresh(v *view) bool {
	longest := 2*s.options().Refresh + longestRead
	if v.err != nil {
		longest = 3 * lookRound
	}
	return time.Since(v.read) < longest
}

// read reads everything, or waits for a concurrent call that does.
func (s *Site) read(ctx context.Context) (*view, error) {
	before := s.current.Load()
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if v := s.current.Load(); v != nil && v != before {
		return v, v.err
	}
	bounded, cancel := context.WithTimeout(ctx, longestRead)
	defer cancel()
	c := s.options()
	v := readView(bounded, c)
	if v.err != nil && ctx.Err() != nil {
		return nil, v.err // the caller gave up, which says nothing about Postfix
	}
	s.tell(c, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config == c { // otherwise Configure was called during the reading
		s.current.Store(v)
	}
	return v, v.err
}

// tell logs that the domains received here have become unknown, or known again.
func (s *Site) tell(c *config, v *view) {
	problem := ""
	if v.err != nil {
		problem = v.err.Error()
	}
	s.mu.Lock()
	before := s.problem
	s.problem = problem
	s.mu.Unlock()
	switch {
	case problem == before:
	case problem != "":
		c.Logger.Warn("cannot read which domains Postfix receives; all mail uses port 25 until it works", "reason", problem)
	default:
		c.Logger.Info("reading the domains that Postfix receives works again")
	}
}
