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
	refreshQueue   = 256 // filled at each tick
	tickInterval   = 10 * time.Second
	// keepExpired is how long an expired policy is kept, in case the clock is wrong. It does not count as live.
	keepExpired = 24 * time.Hour
)

// Run renews policies in use before they expire, removes expired ones, and opens the database again after a fault, until
// ctx ends. A store that does not run still answers.
func (s *Store) Run(ctx context.Context) error {
	due := make(chan *entry, refreshQueue)
	var group errgroup.Group
	for range refreshWorkers {
		group.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case e := <-due:
					s.refresh(ctx, e)
					e.refreshing.Store(false)
				}
			}
		})
	}
	group.Go(func() error {
		tick, disk := time.NewTicker(tickInterval), time.NewTicker(diskInterval)
		defer tick.Stop()
		defer disk.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
				s.tidyUp(due)
			case <-disk.C:
				s.checkDisk()
			}
		}
	})
	return group.Wait()
}

// tidyUp removes expired policies and fills due with those to renew.
func (s *Store) tidyUp(due chan<- *entry) {
	now := time.Now()
	var renew []*entry
	var expired []string
	s.table.removeIf(func(e *entry) bool {
		if now.After(e.expires.Add(keepExpired)) {
			expired = append(expired, e.domain)
			return true
		}
		if len(renew) < refreshQueue && e.due(now) && !s.failures.held(e, now) {
			renew = append(renew, e)
		}
		return false
	})
	s.save(expired...)
	s.failures.sweep(now)
	for _, e := range renew {
		if !e.refreshing.CompareAndSwap(false, true) {
			continue
		}
		select {
		case due <- e:
		default: // the next tick tries again
			e.refreshing.Store(false)
		}
	}
}

// due reports whether to renew a policy: it is in use, and most of its life is over or its times are wrong.
func (e *entry) due(now time.Time) bool {
	return e.live(now) && e.used.Load() && (!now.Before(e.refresh) || e.fromFuture(now))
}

// refresh fetches a policy again, "regardless of the state of the "_mta-sts" TXT record" (RFC 8461 section 10.2). It looks
// up the record only to learn the id.
func (s *Store) refresh(ctx context.Context, have *entry) {
	lookup, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	id, err := s.recordID(lookup, have.domain, dns.Effort{})
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, dns.ErrNotCached):
		return // the resolver cannot ask
	case err != nil:
		id = have.id
	}
	w := want{have.domain, id, have, time.Now()}
	select {
	case <-s.shared.DoChan(w.domain, func() (any, error) { return s.fetch(w) }):
	case <-ctx.Done():
	}
}
