package stsstore

import (
	"context"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
)

// View asks a Store with a fixed effort.
type View struct {
	store  *Store
	effort dns.Effort
}

// View returns a view with a fixed effort.
func (s *Store) View(e dns.Effort) View { return View{s, e} }

// Passive returns the same view for untrusted domains.
func (v View) Passive() View {
	v.effort.Untrusted = true
	return v
}

// Lookup is Store.Lookup.
func (v View) Lookup(ctx context.Context, domain string) mtasts.Result {
	return v.store.Lookup(ctx, domain, v.effort)
}

// Live is Store.Live.
func (v View) Live(domain string) mtasts.Result { return v.store.Live(domain) }

// Announce begins to ask for the TXT record of a domain, and does not wait for it.
func (v View) Announce(domain string) {
	domain = normal(domain)
	if v.effort.CacheOnly || !mtasts.ValidDomain(domain) {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel() // the cache continues a question when its caller has gone
	_, _ = v.store.recordID(over, domain, v.effort)
}
