package gather

import (
	"context"
	"errors"
	"hash/maphash"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
)

// Hosts bounds the lookups about MX hosts: a domain with one good host and 31 whose name servers are silent would
// otherwise hold so many places in the resolver that other domains wait. The first hosts of a next hop that mail is
// sent to need no place. The others share a number of places, and so do all hosts of domains that remote senders chose.
//
// It also remembers, by a hash, which hosts had secure addresses: their TLSA records can be asked for early.
type Hosts struct {
	others, untrusted *semaphore.Weighted
	seed              maphash.Seed
	signed            [1 << 13]atomic.Uint64
}

const places = 64 // of each kind

// NewHosts returns a Hosts with all places free.
func NewHosts() *Hosts {
	return &Hosts{others: semaphore.NewWeighted(places), untrusted: semaphore.NewWeighted(places),
		seed: maphash.MakeSeed()}
}

var errPlaces = errors.New("too many lookups in progress")

// enter waits for a place for host i. Call leave when the lookup is done. A nil Hosts has a place for every host.
func (h *Hosts) enter(ctx context.Context, g *gathering, i int) (leave func(), err error) {
	var shared *semaphore.Weighted
	switch {
	case h == nil || g.by.CacheOnly:
	case g.by.Untrusted:
		shared = h.untrusted
	case i >= policy.FirstHosts:
		shared = h.others
	}
	if shared == nil {
		return func() {}, nil
	}
	if shared.Acquire(ctx, 1) != nil {
		return nil, errPlaces
	}
	return func() { shared.Release(1) }, nil
}

// note remembers whether the addresses of a host are secure. Remote senders change nothing.
func (h *Hosts) note(g *gathering, host string, addresses dns.Status) {
	if h == nil || g.by.CacheOnly || g.by.Untrusted || addresses == dns.Indeterminate {
		return
	}
	if slot, hash := h.slot(host); addresses == dns.Secure {
		slot.Store(hash)
	} else {
		slot.CompareAndSwap(hash, 0)
	}
}

func (h *Hosts) slot(host string) (slot *atomic.Uint64, hash uint64) {
	hash = maphash.String(h.seed, host)
	return &h.signed[hash%uint64(len(h.signed))], hash
}

// wasSigned reports whether the addresses of a host were secure the last time.
func (h *Hosts) wasSigned(host string) bool {
	if h == nil {
		return false
	}
	slot, hash := h.slot(host)
	return slot.Load() == hash
}
