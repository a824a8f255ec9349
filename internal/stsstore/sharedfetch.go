package stsstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
)

const (
	// maxFetches is how many policies are fetched concurrently. A domain whose host hangs uses a slot for its timeout,
	// and then backs off.
	maxFetches = 128
	// fetchTimeout is how long a fetch may take. It is shorter than the minute that RFC 8461 section 3.3 suggests, so
	// that a lookup with a budget of ten seconds learns how it ended.
	fetchTimeout = 8 * time.Second
)

// ErrBusy means that no slot was free for a fetch in time: nothing is known about the policy; ask again later.
var ErrBusy = errors.New("stsstore: too many policies are being fetched")

// fetchShared fetches a policy and waits for it. All lookups of a domain share one fetch, which continues when they
// give up. They share it even if they have seen different ids, so that a domain with a new id in every answer takes one
// slot. All get what the host serves now, and the next lookup fetches again if its id is another one. The error is an
// *mtasts.Error if the fetch failed; with any other error nothing is known.
func (s *Store) fetchShared(ctx context.Context, w want) (*storedPolicy, error) {
	select {
	case result := <-s.shared.DoChan(w.domain, func() (any, error) { return s.fetch(w) }):
		p, _ := result.Val.(*storedPolicy)
		return p, result.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("mtasts: %s: the policy is still being fetched: %w", w.domain, ctx.Err())
	}
}

// fetch fetches a policy and keeps it. The errors are those of fetchShared.
func (s *Store) fetch(w want) (fetched *storedPolicy, err error) {
	s.fetching.RLock()
	defer s.fetching.RUnlock()
	o, begun := s.options.Load(), time.Now()
	defer func() {
		// The domain chose the input of the fetch, which must not end the daemon: a panic is a failed fetch.
		if p := recover(); p != nil {
			o.Logger.Error("panic while fetching an MTA-STS policy", "domain", w.domain, "panic", fmt.Sprint(p))
			fetched, err = nil, s.noteFailure(w, &mtasts.Error{Domain: w.domain, Failure: mtasts.FetchError,
				Err: errors.New("internal error")})
		}
	}()
	// Another fetch may have ended after the caller looked.
	newer := s.table.Get(w.domain)
	if newer != w.have && newer.live(begun) && newer.id == w.id {
		return newer, nil
	}
	if last := s.failures.holds(w.domain, w.id, begun); last != nil {
		return nil, last
	}
	policy, err := s.fetchInSlot(w.domain, o)
	if s.untilClosed.Err() != nil {
		return nil, errors.New("stsstore: closed") // so nothing is known about the policy
	}
	if failed, ok := errors.AsType[*mtasts.Error](err); ok {
		s.count(string(failed.Failure))
		if local(err) {
			return nil, fmt.Errorf("mtasts: %s: the policy cannot be fetched now: %s", w.domain,
				text.Line(err.Error(), maxText))
		}
		return nil, s.noteFailure(w, failed)
	}
	if err != nil {
		return nil, fmt.Errorf("mtasts: %s: %w", w.domain, err)
	}

	s.count("ok")
	s.failures.Forget(w.domain)
	s.noteReachable(o.Logger)
	p := newStoredPolicy(w.domain, w.id, policy, time.Now())
	old := s.put(p)
	o.Fetched(p.domain)
	if old == nil || old.id != p.id {
		o.Logger.Info("MTA-STS policy fetched", "domain", p.domain, "id", p.id, "mode", string(policy.Mode),
			"mx", len(policy.MX), "max_age", policy.MaxAge.String())
	}
	return p, nil
}

// noteFailure remembers that a policy could not be fetched, and returns err.
func (s *Store) noteFailure(w want, err *mtasts.Error) error {
	now, log := time.Now(), s.options.Load().Logger
	failingSince := s.failures.add(w, err, now)
	log.Info("MTA-STS policy could not be fetched", "domain", w.domain, "id", w.id, "live_policy", w.have.live(now),
		"failure", string(err.Failure), "err", text.Line(err.Err.Error(), maxText))
	// If no address of the policy host was found, the resolver failed, which does not show that this host is blocked.
	if _, lookup := errors.AsType[*dns.Error](err); !lookup || err.Addr.IsValid() {
		s.noteUnreachable(err, failingSince, log)
	}
	return err
}
