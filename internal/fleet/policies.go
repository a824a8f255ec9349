package fleet

import (
	"errors"

	"github.com/policyd/policyd/internal/stsstore"
)

// Policies shares the enforced MTA-STS policies of a store.
type Policies struct{ Store *stsstore.Store }

var _ Local = Policies{}

// Domains implements Local.
func (p Policies) Domains() []string { return p.Store.Domains() }

// Content implements Local. The time is that of the fetch, and the lifetime the max_age of the policy.
func (p Policies) Content(domain string) (Content, bool) {
	shared, ok := p.Store.Export(domain)
	if !ok {
		return Content{}, false
	}
	return Content{Time: shared.Fetched, Lifetime: shared.Expires.Sub(shared.Fetched), Data: shared.Data}, true
}

// Merge implements Local: a live policy in mode enforce that was fetched later than the one here is used like a cached
// policy (RFC 8461 section 3.3).
func (p Policies) Merge(domain string, c Content) error {
	err := p.Store.Import(domain, stsstore.Shared{Data: c.Data, Fetched: c.Time, Expires: c.Time.Add(c.Lifetime)})
	switch {
	case errors.Is(err, stsstore.ErrNotNewer):
		return ErrStale
	case err != nil:
		return ErrRefused
	}
	return nil
}
