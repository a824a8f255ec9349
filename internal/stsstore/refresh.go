package stsstore

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/dns"
)

const (
	refreshWorkers = 8
	tickInterval   = 10 * time.Second
	// keepExpired is how long this process keeps an expired policy, which is not live, in case the clock is wrong.
	keepExpired = 12 * time.Hour
)

// Run renews policies in use before they expire, removes expired ones, and opens the database again after a fault,
// until ctx ends. Then it closes the store. A store that does not run still answers.
func (s *Store) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return s.table.Run(ctx) })
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(group.Wait(), s.Close())
		case <-tick.C:
			var renewals errgroup.Group
			renewals.SetLimit(refreshWorkers)
			for _, p := range s.tidyUp(time.Now()) {
				renewals.Go(func() error { return s.refresh(ctx, p) })
			}
			_ = renewals.Wait() // a fetch that failed has been logged
		}
	}
}

// tidyUp removes expired policies, and returns those in use that are due for renewal.
func (s *Store) tidyUp(now time.Time) (due []*storedPolicy) {
	var expired []*storedPolicy
	for domain, p := range s.table.All() {
		p.noteLive(now)
		if p.expiredFor(now) >= keepExpired {
			expired = append(expired, p)
			continue
		}
		inUse := p.used.Load() != 0
		if p.live(now) && inUse && !now.Before(p.refresh) && s.failures.holds(domain, p.id, now) == nil {
			due = append(due, p)
		}
	}
	s.table.Lock()
	defer s.table.Unlock()
	for _, p := range expired {
		if s.table.Records[p.domain] == p { // not replaced
			s.table.Delete(p.domain)
		}
	}
	return due
}

// refresh fetches a policy again, "regardless of the state of the "_mta-sts" TXT record" (RFC 8461 section 10.2). It
// looks up the record only to learn the id.
func (s *Store) refresh(ctx context.Context, have *storedPolicy) error {
	id, _, err := s.recordID(ctx, have.domain, dns.Effort{})
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		id = have.id
	}
	_, err = s.fetchShared(ctx, want{domain: have.domain, id: id, have: have})
	return err
}
