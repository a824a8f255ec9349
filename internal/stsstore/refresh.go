package stsstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/policyd/policyd/internal/dns"
)

const (
	refreshWorkers = 8
	refreshQueue   = 256 // filled at each tick
	tickInterval   = 10 * time.Second
	// diskInterval is how often it is looked whether the disk is what it was.
	diskInterval = 2 * time.Second
	// keepExpired is how long a policy that has ended is kept, as not live: a clock that was wrong for a while
	// must not cost a policy.
	keepExpired = 24 * time.Hour
	// atOnce is how many entries are written in one transaction.
	atOnce = 512
)

// Run reads what is on disk, renews policies that are in use before they end, removes those that have ended, and writes what
// could not be written before, until ctx ends. A store that is not run answers all the same.
func (s *Store) Run(ctx context.Context) error {
	due := make(chan *entry, refreshQueue)
	var workers sync.WaitGroup
	for range refreshWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case e := <-due:
					s.refresh(ctx, e)
					e.refreshing.Store(false)
				}
			}
		})
	}
	defer workers.Wait()
	s.load(ctx)
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	disk := time.NewTicker(diskInterval)
	defer disk.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.tidyUp(due)
		case <-disk.C:
			s.mend(ctx)
		}
	}
}

// mend opens a database that was removed, or could not be opened or written, reads it, and writes what is not on it.
func (s *Store) mend(ctx context.Context) {
	if s.disk == nil {
		return
	}
	gone, opened := s.disk.gone(), s.disk.open(laterPatience)
	if gone || opened {
		s.loaded.Store(false)
		s.load(ctx)
		s.saveAll()
	}
}

// load reads the policies on disk into the table.
func (s *Store) load(ctx context.Context) {
	if s.loaded.Load() {
		return
	}
	for after := ""; ctx.Err() == nil; {
		more, last := s.loadPage(after)
		if !more {
			s.loaded.Store(true)
			return
		}
		after = last
	}
}

// loadPage reads the policies after a domain, and returns the last domain it has seen. It returns false at the end,
// and where the disk fails.
func (s *Store) loadPage(after string) (more bool, last string) {
	s.moving.Lock()
	defer s.moving.Unlock()
	items, err := s.disk.page(after)
	if err != nil || len(items) == 0 {
		return false, ""
	}
	var gone []string
	for _, i := range items {
		e, err := decode(i.domain, i.value)
		if err != nil {
			gone = append(gone, i.domain)
			continue
		}
		gone = append(gone, s.table.putNew(e)...)
	}
	s.save(gone...)
	return true, items[len(items)-1].domain
}

// save makes the disk agree with the table about some domains: it writes what is there and deletes what is not.
// To look at the table within the transaction makes the last change of the table the last on disk.
func (s *Store) save(domains ...string) {
	if s.disk == nil || len(domains) == 0 || !s.disk.writable() {
		return
	}
	var written []*entry
	err := s.disk.update(func(b *bbolt.Bucket) error {
		for _, domain := range domains {
			e := s.table.get(domain)
			if e == nil {
				if err := b.Delete([]byte(domain)); err != nil {
					return err
				}
				continue
			}
			value, err := e.encode()
			if err != nil {
				return err
			}
			if err := b.Put([]byte(domain), value); err != nil {
				return err
			}
			written = append(written, e)
		}
		return nil
	})
	if err != nil {
		return // the disk has said so, and it is tried again
	}
	for _, e := range written {
		e.saved.Store(true)
	}
}

// saveAll writes what is not on disk yet.
func (s *Store) saveAll() {
	if s.disk.replaced.Swap(false) {
		s.table.each(func(e *entry) { e.saved.Store(false) })
	}
	for unsaved := s.unsaved(); len(unsaved) > 0; {
		n := min(len(unsaved), atOnce)
		s.save(unsaved[:n]...)
		unsaved = unsaved[n:]
	}
	if s.disk.writable() {
		s.disk.settle(time.Now())
	}
}

// unsaved returns the domains whose policy is not on disk.
func (s *Store) unsaved() (domains []string) {
	s.table.each(func(e *entry) {
		if !e.saved.Load() {
			domains = append(domains, e.domain)
		}
	})
	return domains
}

// tidyUp does what is due.
func (s *Store) tidyUp(due chan<- *entry) {
	now := time.Now()
	var ended, renew []*entry
	s.table.each(func(e *entry) {
		switch {
		case now.After(e.expires.Add(keepExpired)):
			ended = append(ended, e)
		case len(renew) < refreshQueue && e.due(now) && !s.failures.held(e, now):
			renew = append(renew, e)
		}
	})
	gone := make([]string, len(ended))
	for i, e := range ended {
		s.table.remove(e)
		gone[i] = e.domain
	}
	s.save(gone...)
	s.failures.sweep(now)
	if s.disk != nil {
		s.saveAll()
	}
	for _, e := range renew {
		if !e.refreshing.CompareAndSwap(false, true) {
			continue
		}
		select {
		case due <- e:
		default: // there is more to do than is good: next time
			e.refreshing.Store(false)
		}
	}
}

// due says that a policy is to be renewed: it is in use, and the best part of its life is over, or its times are wrong.
func (e *entry) due(now time.Time) bool {
	return e.live(now) && e.used.Load() && (!now.Before(e.refresh) || e.fromFuture(now))
}

// refresh fetches a policy again, "regardless of the state of the "_mta-sts" TXT record" (RFC 8461 section 10.2), which is
// looked at only to learn the id.
func (s *Store) refresh(ctx context.Context, have *entry) {
	id, err := s.Passive().announcement(ctx, have.domain, true)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && errors.Is(err, dns.ErrNotCached):
		return // a resolver that may not ask has no place here
	case err != nil:
		id = have.id
	}
	w := want{have.domain, id, have, time.Now()}
	flight := s.flights.DoChan(w.domain, func() (any, error) { return s.fly(w, true) })
	select {
	case landed := <-flight:
		if landed.Err == nil {
			s.counters.refreshed.Add(1)
		}
	case <-ctx.Done():
	}
}
