package stsstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
)

const (
	// liveWait is how long a lookup waits for the TXT record and for a newer policy while it has a live one, which
	// holds in any case.
	liveWait = time.Second
	// maxText bounds text from remote parties in a result or a log line.
	maxText = 1000
)

// Lookup finds the policy of a domain, given with A-labels and in any case. It asks for the TXT record, and fetches the
// policy if the record announces one that the store does not have. If ctx ends first, the result is Unknown and the
// fetch continues. A live policy is returned after liveWait at the latest.
//
// With CacheOnly it never waits: where it would ask or fetch, the result is Unknown and its error wraps ErrNotCached.
// With Untrusted it asks for the record, but never fetches (Unknown and ErrNotCached again), and the policy does not
// count as used: it is not renewed and does not stay in memory on behalf of a remote party.
func (s *Store) Lookup(ctx context.Context, domain string, effort dns.Effort) mtasts.Result {
	domain = normal(domain)
	if !mtasts.ValidDomain(domain) {
		return mtasts.Result{Domain: domain, State: mtasts.Absent, Why: "not a domain that can have a policy"}
	}
	now := time.Now()
	have := s.table.Get(domain)
	live := have.live(now)
	if live && !effort.Untrusted {
		have.use(now)
	}
	if live && !effort.CacheOnly {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, liveWait)
		defer cancel()
	}
	id, recordExpires, err := s.recordID(ctx, domain, effort)
	newest := have
	if err == nil && (!live || id != have.id) {
		w := want{domain: strings.Clone(domain), id: id, have: have} // domain may be a part of the whole request
		newest, err = s.renew(ctx, w, effort)
	}
	var r mtasts.Result
	switch {
	case err == nil:
		r = newest.result()
	case errors.Is(err, dns.ErrNotCached):
		r = unknown(domain, err)
	case live:
		// "If no "live" policy can be discovered via DNS or fetched via HTTPS, but a valid (non-expired)
		// policy exists in the sender's cache, the sender MUST apply that cached policy" (section 3.3).
		r = have.stale(err)
	default:
		r = withoutPolicy(domain, id, err, ctx.Err() != nil)
	}
	r.RecordExpires = recordExpires
	return r
}

// normal returns a domain in lower case and without the final dot.
func normal(domain string) string { return strings.ToLower(strings.TrimSuffix(domain, ".")) }

// recordID returns the id that the domain announces, and until when the record may be cached. The error is of
// mtasts.RecordID or of the lookup, and the id is empty then.
func (s *Store) recordID(ctx context.Context, domain string, effort dns.Effort) (string, time.Time, error) {
	rrset, err := s.options.Load().Resolver.Lookup(ctx, mtasts.RecordQuestion(domain), effort)
	if err != nil {
		return "", time.Time{}, err
	}
	id, err := mtasts.RecordID(rrset.TXT())
	return id, rrset.Expires, err
}

// want is a policy that is announced and that the store does not have.
type want struct {
	domain, id string
	have       *storedPolicy // an older one, live or not, or nil
}

// renew returns the announced policy. It does not fetch it if the last attempt was too recent, or on behalf of a lookup
// that must not.
func (s *Store) renew(ctx context.Context, w want, effort dns.Effort) (*storedPolicy, error) {
	now := time.Now()
	if last := s.failures.holds(w.domain, w.id, now); last != nil {
		return nil, last
	}
	if w.have.live(now) && w.have.backsOff(now) {
		return nil, errors.New("mtasts: " + w.domain + ": the id changes too often")
	}
	if effort.CacheOnly || effort.Untrusted {
		return nil, fmt.Errorf("mtasts: %s: policy %s has not been fetched: %w", w.domain, w.id, dns.ErrNotCached)
	}
	return s.fetchShared(ctx, w)
}

// Version changes whenever a policy is stored or removed. It never returns to an earlier value.
func (s *Store) Version() uint64 { return s.table.Changes() }

// local reports whether a lookup or a fetch failed because this machine has no file descriptor or memory left. That
// passes and says nothing about the domain, so the mail waits. A policy host that cannot be reached is not a local
// failure, even if the cause is that this machine has no IPv6: mail for the domain does not wait.
func local(err error) bool {
	lacking := []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS}
	return slices.ContainsFunc(lacking, func(want error) bool { return errors.Is(err, want) })
}

// result returns the policy as an answer.
func (p *storedPolicy) result() mtasts.Result {
	return mtasts.Result{Domain: p.domain, State: mtasts.Found, Policy: p.policy, ID: p.id, Fetched: p.fetched,
		Expires: p.expires, Why: "policy of mode " + string(p.policy.Mode)}
}

// stale returns a live policy that the domain did not confirm, because of err.
func (p *storedPolicy) stale(err error) mtasts.Result {
	r := p.result()
	r.Stale, r.Err = true, err
	r.Why = text.Line("the stored "+r.Why+" still holds, because nothing newer is available: "+err.Error(), maxText)
	if failed, ok := errors.AsType[*mtasts.Error](err); ok {
		r.Failure = failed.Failure
	}
	return r
}

// withoutPolicy returns the result for a domain without a live policy, because of err. The id is that of the record, ""
// if there is none. ended reports whether the context of the lookup has ended.
func withoutPolicy(domain, id string, err error, ended bool) mtasts.Result {
	if failed, ok := errors.AsType[*mtasts.Error](err); ok {
		return mtasts.Result{Domain: domain, State: mtasts.Failed, ID: id, Failure: failed.Failure, Err: err,
			Why: failed.Error()}
	}
	if errors.Is(err, mtasts.ErrNoRecord) || errors.Is(err, mtasts.ErrManyRecords) ||
		errors.Is(err, mtasts.ErrBadRecord) {
		return mtasts.Result{Domain: domain, State: mtasts.Absent, Why: strings.TrimPrefix(err.Error(), "mtasts: ")}
	}
	if id == "" && !ended && !local(err) {
		return mtasts.Result{Domain: domain, State: mtasts.Failed, Err: err,
			Why: text.Line("the TXT record could not be looked up: "+err.Error(), maxText)}
	}
	return unknown(domain, err)
}

func unknown(domain string, err error) mtasts.Result {
	return mtasts.Result{Domain: domain, State: mtasts.Unknown, Err: err, Why: text.Line(err.Error(), maxText)}
}
