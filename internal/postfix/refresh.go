package postfix

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	// lookRound is how often Run looks whether a file or an address has changed.
	lookRound = 2 * time.Second
	// retryAfter is for reading again after failures in succession, lookRound after the first; doubling.
	retryAfter = 5 * time.Second
	// longestRead is for all the commands of one reading.
	longestRead = 30 * time.Second
)

// Run keeps what is known fresh until ctx ends: it reads everything again when one of the files or an address of this
// machine changes, after Configure, and once per Refresh.
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
	if v.err != nil && age >= v.retry || age >= s.options().Refresh {
		return true
	}
	if v.changed() {
		// What is known is void at once: not even the time of a reading may pass with the old lists.
		s.current.CompareAndSwap(v, nil)
		s.tables.flush()
		return true
	}
	return false
}

// knowledge returns what was read, while that is fresh. Otherwise it reads, or, if it may not wait, returns
// dns.ErrNotCached.
func (s *Site) knowledge(ctx context.Context, wait bool) (*view, error) {
	if v := s.current.Load(); v != nil && s.fresh(v) {
		return v, v.err
	}
	if !wait {
		return nil, dns.ErrNotCached
	}
	return s.read(ctx)
}

// fresh bounds how long anything is believed, whatever has become of Run.
func (s *Site) fresh(v *view) bool {
	longest := 2*s.options().Refresh + longestRead
	if v.err != nil {
		longest = retryAfter + lookRound
	}
	return time.Since(v.read) < longest
}

// read reads everything, or waits for somebody who is reading.
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
		return nil, v.err // the caller went away: that says nothing about Postfix
	}
	s.tell(c, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retry = min(max(lookRound, 2*s.retry), retryAfter); v.err == nil {
		s.retry = 0
	}
	v.retry = s.retry
	if s.config == c { // else Configure has been called meanwhile
		s.current.Store(v)
	}
	return v, v.err
}

// tell logs that what is received here has become unknown, or known again.
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
		c.Logger.Warn("it is not known what this site receives: no mail takes the route to implicit TLS until it is", "reason", problem)
	default:
		c.Logger.Info("it is known again what this site receives")
	}
}
