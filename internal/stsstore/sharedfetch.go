package stsstore

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
)

const (
	// maxFlights is how many policies are fetched at a time. Hosts that hang hold a place for fetchTimeout, and then
	// for longer and longer not at all.
	maxFlights = 128
	// fetchTimeout is how long a fetch may take, shorter than the minute that RFC 8461 section 3.3 suggests, so that
	// a lookup with a budget of ten seconds learns how it ended.
	fetchTimeout = 8 * time.Second
)

// await has a policy fetched and waits for it. All callers for a domain share one fetch, which goes on when they give
// up: also those that have seen another id, so that a domain with a new one at every look does not take all
// places. They get what is served now; its id is then not the one they saw, and the next lookup fetches again. The error is an *Error when it failed; otherwise nothing is known.
func (s *Store) await(ctx context.Context, w want) (*entry, error) {
	flight := s.flights.DoChan(w.domain, func() (any, error) { return s.fly(w, false) })
	var late <-chan time.Time
	if w.have.live(w.now) {
		timer := time.NewTimer(livePatience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case landed := <-flight:
		e, _ := landed.Val.(*entry)
		return e, landed.Err
	case <-late:
		return nil, errors.New("mtasts: " + w.domain + ": the newer policy is still being fetched")
	case <-ctx.Done():
		return nil, fmt.Errorf("mtasts: %s: the policy did not arrive in time: %w", w.domain, ctx.Err())
	}
}

// fly fetches a policy and keeps it.
func (s *Store) fly(w want, refresh bool) (e *entry, err error) {
	if !s.begin() {
		return nil, errClosed
	}
	defer s.flying.Done()
	o, begun := s.options.Load(), time.Now()
	defer func() {
		// A stranger's words led here: they must not end the daemon. The panic is a failure like another.
		if p := recover(); p != nil {
			o.Logger.Error("fetching an MTA-STS policy panicked", "domain", w.domain, "panic", fmt.Sprint(p))
			e, err = nil, s.failed(w, &mtasts.Error{Domain: w.domain, Failure: mtasts.FetchError, Err: errors.New("internal error")})
		}
	}()
	// Another flight may have landed between the caller's look and this.
	if e = s.table.get(w.domain); e != w.have && e.live(begun) && e.id == w.id {
		return e, nil
	}
	if last, held := s.failures.holds(w.domain, w.id, begun); held {
		return nil, last.err
	}
	if !s.room.TryAcquire(1) {
		s.counters.busy.Add(1)
		return nil, ErrBusy
	}
	defer s.room.Release(1)
	ctx, cancel := context.WithTimeout(s.life, fetchTimeout)
	defer cancel()
	policy, err := o.Fetcher.Fetch(ctx, w.domain)
	if s.life.Err() != nil {
		return nil, errClosed
	}
	s.observe(o, err, Event{Refresh: refresh, Took: time.Since(begun)})
	if ours(err) {
		return nil, fmt.Errorf("mtasts: %s: the policy cannot be fetched now: %s", w.domain, text.Line(err.Error(), maxText))
	}
	if err != nil {
		failed, ok := errors.AsType[*mtasts.Error](err)
		if !ok {
			failed = &mtasts.Error{Domain: w.domain, Failure: mtasts.FetchError, Err: err}
		}
		return nil, s.failed(w, failed)
	}
	s.failures.forget(w.domain)
	return s.keep(newEntry(w.domain, w.id, policy, time.Now())), nil
}

// ours says that a failure is of this machine and says nothing of the domain: it has no file descriptor or memory left, which
// passes. Mail waits then, which it need not do for a domain that cannot be reached, be it for want of IPv6.
func ours(err error) bool {
	for _, want := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// failed notes that a policy could not be fetched.
func (s *Store) failed(w want, err *mtasts.Error) error {
	now := time.Now()
	var expires time.Time
	if w.have.live(now) {
		expires = w.have.expires
	}
	s.failures.add(err, w.id, now, expires)
	s.options.Load().Logger.Info("an MTA-STS policy could not be fetched",
		"domain", w.domain, "id", w.id, "live_policy", w.have.live(now), "failure", string(err.Failure), "err", text.Line(err.Err.Error(), maxText))
	return err
}

// keep puts an entry in the table and on disk, and returns it.
func (s *Store) keep(e *entry) *entry {
	// Without this, a policy on disk that has not been read yet would not be seen being replaced.
	old, _ := s.known(e.domain, true)
	evicted := s.table.put(e.after(old))
	s.counters.evicted.Add(uint64(len(evicted)))
	s.save(append(evicted, e.domain)...)
	if old == nil || old.id != e.id {
		s.options.Load().Logger.Info("an MTA-STS policy was fetched",
			"domain", e.domain, "id", e.id, "mode", e.policy.Mode.String(), "mx", len(e.policy.MX), "max_age", e.policy.MaxAge.String())
	}
	return e
}

func (s *Store) observe(o *Options, err error, event Event) {
	if err == nil {
		event.Result = "ok"
		s.counters.fetched.Add(1)
	} else {
		event.Result = string(mtasts.FetchError)
		if failed, ok := errors.AsType[*mtasts.Error](err); ok {
			event.Result = string(failed.Failure)
		}
		s.counters.failed.Add(1)
	}
	if o.Observe != nil {
		o.Observe(event)
	}
}
