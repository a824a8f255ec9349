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
			for _, e := range s.tidyUp(time.Now()) {
				renewals.Go(func() error { return s.refresh(ctx, e) })
			}
			_ = renewals.Wait() // a fetch that failed has been logged
		}
	}
}

// tidyUp removes expired policies, and returns those in use that are due for renewal.
func (s *Store) tidyUp(now time.Time) (due []*entry) {
	var expired []*entry
	for domain, e := range s.table.All() {
		if e.over(now) {
			expired = append(expired, e)
		} else if e.live(now) && e.used.Load() != 0 && !now.Before(e.refresh) {
			if s.failures.holds(domain, e.id, now) == nil {
				due = append(due, e)
			}
		}
	}
	s.table.Lock()
	defer s.table.Unlock()
	for _, e := range expired {
		if s.table.Records[e.domain] == e { // not replaced
			s.table.Delete(e.domain)
		}
	}
	return due
}

// refresh fetches a policy again, "regardless of the state of the "_mta-sts" TXT record" (RFC 8461 section 10.2). It
// looks up the record only to learn the id.
func (s *Store) refresh(ctx context.Context, have *entry) error {
	id, _, err := s.recordID(ctx, have.domain, dns.Effort{})
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil:
		id = have.id
	}
	_, err = s.await(ctx, want{have.domain, id, have})
	return err
}
