package postfix

import (
	"context"
	"fmt"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	// checkInterval is how often Run checks for a changed file or address, and tries again after a failure.
	checkInterval = 2 * time.Second
	// refreshAge is the age at which everything is read again even if no file has changed.
	refreshAge = time.Minute
	// readTimeout is for all commands of one reading.
	readTimeout = 30 * time.Second
)

// Run keeps the data fresh until ctx ends: it reads everything again when a file or an address of this machine has
// changed, after Configure, after a failure, and once per minute.
func (s *Site) Run(ctx context.Context) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		if v := s.current(); v != nil && v.changed() {
			// The old lists are void immediately, not only when the new ones have been read.
			s.latest.CompareAndSwap(v, nil)
		}
		_, _ = s.read(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// due reports whether everything must be read again: after a failure, or because the view is old.
func (v *view) due() bool {
	age := time.Since(v.read)
	return v.err != nil && age >= checkInterval || age >= refreshAge
}

// current returns the latest view, or nil if it was read with other options or is too old. So its age is bounded even
// if Run does not work.
func (s *Site) current() *view {
	v := s.latest.Load()
	if v == nil || v.options != s.options.Load() || time.Since(v.read) >= 2*refreshAge+readTimeout {
		return nil
	}
	return v
}

// view returns the current view. If there is none it reads one, or returns dns.ErrNotCached if it may not wait.
func (s *Site) view(ctx context.Context, effort dns.Effort) (*view, error) {
	if v := s.current(); v != nil {
		return v, v.err
	}
	if effort.CacheOnly {
		return nil, dns.ErrNotCached
	}
	return s.read(ctx)
}

// read reads everything if there is no current view or it is due, or waits for a concurrent call that does.
func (s *Site) read(ctx context.Context) (*view, error) {
	if err := s.reading.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.reading.Release(1)
	if v := s.current(); v != nil && !v.due() {
		return v, v.err
	}
	bounded, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	v := readView(bounded, s.options.Load())
	if v.err != nil && ctx.Err() != nil {
		return nil, v.err // the caller gave up, which says nothing about Postfix
	}
	if old := s.latest.Load(); old != nil && v.settings == nil && v.commands.Postconf != "" {
		v.settings = old.settings // the Client still needs them
	}
	s.latest.Store(v)
	switch {
	case fmt.Sprint(v.err) == fmt.Sprint(s.problem):
	case v.err != nil:
		v.options.Logger.Warn("cannot read which domains Postfix receives; all mail uses port 25 until it works",
			"reason", v.err.Error())
	default:
		v.options.Logger.Info("reading the domains that Postfix receives works again")
	}
	s.problem = v.err
	return v, v.err
}
