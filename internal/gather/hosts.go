package gather

import (
	"context"
	"errors"
	"hash/maphash"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
)

// Hosts bounds concurrent lookups of MX hosts: a domain with one good host and 31 hosts on silent name servers would
// otherwise occupy the resolver for other domains. For deliveries, the first policy.FirstHosts hosts of a next hop are
// not bounded. The others share a limit, and all hosts of domains that untrusted senders chose share another. Hosts
// also remembers which hosts were signed.
type Hosts struct {
	others, untrusted *semaphore.Weighted // one place per lookup

	seed   maphash.Seed
	signed [1 << 13]atomic.Uint64 // hashes of the hosts that had secure addresses when they were last looked up
}

const places = 64 // the size of each of the two limits

// NewHosts returns a Hosts with all places free.
func NewHosts() *Hosts {
	return &Hosts{others: semaphore.NewWeighted(places), untrusted: semaphore.NewWeighted(places),
		seed: maphash.MakeSeed()}
}

var errPlaces = errors.New("too many lookups in progress")

// enter waits for a place for host i if it needs one, but not longer than until. Call leave when the lookup is done.
func (g *gathering) enter(until time.Time, i int) (leave func(), err error) {
	if g.Hosts == nil || g.effort.CacheOnly || !g.effort.Untrusted && i < policy.FirstHosts {
		return func() {}, nil
	}
	shared := g.Hosts.others
	if g.effort.Untrusted {
		shared = g.Hosts.untrusted
	}
	ctx, cancel := context.WithDeadline(g.ctx, until)
	defer cancel()
	if err := shared.Acquire(ctx, 1); err != nil {
		return nil, errPlaces
	}
	return func() { shared.Release(1) }, nil
}

// noteSigned remembers whether the addresses of a host are secure: its TLSA records can be asked for together with
// them, which saves a round trip. See policy.Need. Lookups that remote senders cause change nothing.
func (g *gathering) noteSigned(host string, addresses dns.Status) {
	if g.Hosts == nil || g.effort.CacheOnly || g.effort.Untrusted || addresses == dns.Indeterminate {
		return
	}
	slot, hash := g.Hosts.slot(host)
	if addresses == dns.Secure {
		slot.Store(hash)
	} else {
		slot.CompareAndSwap(hash, 0)
	}
}

// wasSigned reports whether the addresses of a host were secure when they were last looked up.
func (g *gathering) wasSigned(host string) bool {
	if g.Hosts == nil {
		return false
	}
	slot, hash := g.Hosts.slot(host)
	return slot.Load() == hash
}

func (h *Hosts) slot(host string) (slot *atomic.Uint64, hash uint64) {
	hash = maphash.String(h.seed, host)
	return &h.signed[hash%uint64(len(h.signed))], hash
}
