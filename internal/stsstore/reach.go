package stsstore

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
)

// blockedDomains is how many policy domains, in as many networks, must fail before fetching counts as blocked.
const blockedDomains = 5

// reach notices when no policy can be fetched from this host at all: outbound port 443 is blocked, a proxy is needed,
// or there are no root certificates. Only reports to the operator depend on it.
type reach struct {
	mu      sync.Mutex
	since   time.Time // when fetching was found to be blocked; zero if it is not
	success time.Time // the last one
	// networks are those that failed since then, each with one domain.
	networks map[string]string
}

// failed notes a fetch that failed. A policy host that answered shows that the path is open, and a domain that has been
// failing since before the last success shows nothing: first is when it began.
func (r *reach) failed(err *mtasts.Error, first, now time.Time, log *slog.Logger) {
	if err.Answered() {
		r.succeeded(now, log)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.since.IsZero() || first.Before(r.success) ||
		slices.Contains(slices.Collect(maps.Values(r.networks)), err.Domain) {
		return
	}
	network := address.Network(err.Addr).String()
	switch {
	case !err.Addr.IsValid():
		network = err.Domain // only a proxy knows the address
	case address.Special(err.Addr):
		network = err.Addr.String() // counts as a network of its own
	}
	r.networks[network] = err.Domain
	if len(r.networks) < blockedDomains {
		return
	}
	r.since = now
	log.Warn("no MTA-STS policy can be fetched from this host", "domains", len(r.networks), "last", err.Domain,
		"err", text.Line(err.Err.Error(), maxText))
}

// succeeded notes that a policy host could be reached.
func (r *reach) succeeded(now time.Time, log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.since.IsZero() {
		log.Info("MTA-STS policies can be fetched again", "dur", now.Sub(r.since).Round(time.Second).String())
	}
	r.since, r.success = time.Time{}, now
	clear(r.networks)
}

// blocked returns since when fetching has been blocked; the zero time if it is not.
func (r *reach) blocked() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since
}
