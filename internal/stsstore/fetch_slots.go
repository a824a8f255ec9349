package stsstore

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
)

const (
	// crowded is the number of concurrent fetches above which a fetch gets only crowdedTimeout, so that a domain that
	// waits for a slot behind hosts that hang is still answered within its budget.
	crowded        = maxFetches / 2
	crowdedTimeout = 3 * time.Second
)

// fetchInSlot fetches a policy when a slot for it is free. Fetches that wait for a slot are served in order. The error
// is ErrBusy if none becomes free in time, and otherwise that of the Fetcher.
func (s *Store) fetchInSlot(domain string, o *Options) (mtasts.Policy, error) {
	ctx, cancel := context.WithTimeout(s.untilClosed, fetchTimeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return mtasts.Policy{}, ErrBusy
	}
	timeout := fetchTimeout
	if len(s.slots) > crowded {
		timeout = crowdedTimeout
	}
	ctx, cancel = context.WithTimeout(s.untilClosed, timeout)
	defer cancel()
	return o.Fetcher.Fetch(ctx, domain)
}
