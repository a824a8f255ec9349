package stsstore

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

const (
	// crowded is the number of concurrent fetches above which a fetch gets only crowdedTimeout, so that a domain that
	// waits for a place behind hosts that hang is still answered within its budget.
	crowded        = maxFetches / 2
	crowdedTimeout = 3 * time.Second
)

// fetchInPlace fetches a policy when a place for it is free. Fetches that wait for a place are served in order. The
// error is ErrBusy if none becomes free in time.
func (s *Store) fetchInPlace(domain string, o *Options) (mtasts.Policy, error) {
	ctx, cancel := context.WithTimeout(s.life, fetchTimeout)
	defer cancel()
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return mtasts.Policy{}, ErrBusy
	}
	timeout := fetchTimeout
	if len(s.places) > crowded {
		timeout = crowdedTimeout
	}
	ctx, cancel = context.WithTimeout(s.life, timeout)
	defer cancel()
	return o.Fetcher.Fetch(ctx, domain)
}
