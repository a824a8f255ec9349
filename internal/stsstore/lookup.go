package stsstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
)

var errReading = fmt.Errorf("mtasts: the stored policies are being read: %w", dns.ErrNotCached)

// View is a way to ask a Store.
type View struct {
	store           *Store
	cached, passive bool
}

// Lookup finds the policy of a domain, in any case and with A-labels, of which the TXT record
// is asked for when it is not in the resolver's cache, and the policy is fetched when the record announces one that
// the store does not have. A caller with a deadline gets Unknown where that ends before an answer is there; the
// fetch goes on.
func (s *Store) Lookup(ctx context.Context, domain string) mtasts.Result {
	return View{store: s}.Lookup(ctx, domain)
}

// Cached returns a view that never waits: where Lookup would ask or fetch, it returns Unknown and an error that wraps
// dns.ErrNotCached.
func (s *Store) Cached() View { return View{store: s, cached: true} }

// Passive returns a view for domains that strangers choose, such as those of envelope senders. It asks for the TXT record,
// but never fetches: where Lookup would, it returns Unknown and an error that wraps dns.ErrNotCached. What
// it finds does not count as used, so it is not renewed for its sake and does not drive out others.
func (s *Store) Passive() View { return View{store: s, passive: true} }

// Passive returns the same view as one for domains that strangers choose.
func (v View) Passive() View {
	v.passive = true
	return v
}

// Lookup is Store.Lookup as far as the view allows it.
func (v View) Lookup(ctx context.Context, domain string) mtasts.Result {
	s := v.store
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if !mtasts.ValidDomain(domain) {
		return mtasts.Result{Domain: domain, State: mtasts.Absent, Why: "no domain that could have a policy"}
	}
	e, sure := s.known(domain, !v.cached)
	if !sure {
		return unknown(domain, errReading)
	}
	now := time.Now()
	live := e.live(now)
	id, err := v.announcement(ctx, domain, live)
	switch {
	case errors.Is(err, dns.ErrNotCached):
		return unknown(domain, err)
	case live && err == nil && id == e.id && !e.fromFuture(now):
		v.use(e, now)
		s.counters.hits.Add(1)
		return e.result()
	case live && err != nil:
		// "If no "live" policy can be discovered via DNS or fetched via HTTPS, but a valid (non-expired)
		// policy exists in the sender's cache, the sender MUST apply that cached policy" (section 3.3).
		v.use(e, now)
		return s.stale(e, err)
	case errors.Is(err, mtasts.ErrNoRecord), errors.Is(err, mtasts.ErrManyRecords), errors.Is(err, mtasts.ErrBadRecord):
		return mtasts.Result{Domain: domain, State: mtasts.Absent, Why: strings.TrimPrefix(err.Error(), "mtasts: ")}
	case err != nil && (ctx.Err() != nil || ours(err)):
		return unknown(domain, err)
	case err != nil:
		return mtasts.Result{Domain: domain, State: mtasts.Failed, Err: err, Why: text.Line("the TXT record could not be looked up: "+err.Error(), maxText)}
	}
	if live {
		v.use(e, now)
	}
	// What is kept must not keep the whole request alive.
	return v.renew(ctx, want{strings.Clone(domain), id, e, now})
}

// Announce has the TXT record of a domain looked up that Lookup will need, where the view may ask for it, and does not wait for
// it.
func (s *Store) Announce(domain string) { View{store: s}.Announce(domain) }

// Announce is Store.Announce as far as the view allows it.
func (v View) Announce(domain string) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if v.cached || !mtasts.ValidDomain(domain) {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel() // a question to the cache goes on when nobody waits for it any more
	_, _ = v.announcement(over, domain, false)
}

// Live returns the policy of a domain that is kept and live, confirmed or not, Absent where there is none. It asks and fetches
// nothing, and what it finds does not count as used.
func (s *Store) Live(domain string) mtasts.Result { return View{store: s}.Live(domain) }

// Live is Store.Live; a cached view returns Unknown and an error that wraps dns.ErrNotCached while the stored policies are
// being read.
func (v View) Live(domain string) mtasts.Result {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	e, sure := v.store.known(domain, !v.cached)
	switch {
	case !sure:
		return unknown(domain, errReading)
	case !e.live(time.Now()):
		return mtasts.Result{Domain: domain, State: mtasts.Absent, Why: "no live policy"}
	}
	return e.result()
}

// want is a policy that is announced and not there.
type want struct {
	domain, id string
	have       *entry // an older one, live or not, or nil
	now        time.Time
}

// renew has the announced policy fetched, unless that was tried just now.
func (v View) renew(ctx context.Context, w want) mtasts.Result {
	s, live := v.store, w.have.live(w.now)
	if last, held := s.failures.holds(w.domain, w.id, w.now); held {
		return s.without(w, last.err)
	}
	if live && w.have.heldBack(w.now) {
		return s.stale(w.have, errors.New("mtasts: "+w.domain+": the id changes too often"))
	}
	if v.cached || v.passive {
		return unknown(w.domain, fmt.Errorf("mtasts: %s: the policy %s has to be fetched: %w", w.domain, w.id, dns.ErrNotCached))
	}
	e, err := s.await(ctx, w)
	if err != nil {
		return s.without(w, err)
	}
	return e.result()
}

// without is the result where the announced policy cannot be had.
func (s *Store) without(w want, err error) mtasts.Result {
	if w.have.live(w.now) {
		return s.stale(w.have, err)
	}
	failed, ok := errors.AsType[*mtasts.Error](err)
	if !ok {
		return unknown(w.domain, err)
	}
	return mtasts.Result{Domain: w.domain, State: mtasts.Failed, ID: w.id, Failure: failed.Failure, Err: err, Why: failed.Error()}
}

func (v View) use(e *entry, now time.Time) {
	if !v.passive {
		e.use(now)
	}
}

// result is the entry as an answer. It does not allocate.
func (e *entry) result() mtasts.Result {
	r := mtasts.Result{Domain: e.domain, State: mtasts.Found, Policy: e.policy, ID: e.id, Fetched: e.fetched, Expires: e.expires}
	switch e.policy.Mode {
	case mtasts.Enforce:
		r.Why = "policy of mode enforce"
	case mtasts.Testing:
		r.Why = "policy of mode testing: failures are only reported"
	case mtasts.None:
		r.Why = "policy of mode none: the domain wants no MTA-STS"
	case mtasts.ModeUnknown: // ParsePolicy returns none
	}
	return r
}

// stale is an entry that is live, and that the domain could not confirm because of err.
func (s *Store) stale(e *entry, err error) mtasts.Result {
	s.counters.stale.Add(1)
	r := e.result()
	r.Stale, r.Err = true, err
	r.Why = text.Line("the stored "+r.Why+" holds, as nothing newer could be had: "+err.Error(), maxText)
	if failed, ok := errors.AsType[*mtasts.Error](err); ok {
		r.Failure = failed.Failure
	}
	return r
}

// maxText bounds text from remote parties in a result or a log line.
const maxText = 1000

func unknown(domain string, err error) mtasts.Result {
	return mtasts.Result{Domain: domain, State: mtasts.Unknown, Err: err, Why: text.Line(err.Error(), maxText)}
}
