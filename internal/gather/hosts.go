package gather

import (
	"context"
	"errors"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
)

// Hosts bounds the lookups about MX hosts: a domain with one good host and 31 whose name servers are silent would
// otherwise hold so many places in the resolver that other domains wait. The first hosts of a next hop that mail is
// sent to need no place. The others share a number of places, and so do all hosts of domains that remote senders chose.
//
// It also remembers, by a hash, which hosts had secure addresses: their TLSA records can be asked for early.
type Hosts struct {
	others, untrusted chan struct{} // an element per place that is taken
	seed              maphash.Seed
	signed            [1 << 13]atomic.Uint64
}

const places = 64 // of each kind

// NewHosts returns a Hosts with all places free.
func NewHosts() *Hosts {
	return &Hosts{others: make(chan struct{}, places), untrusted: make(chan struct{}, places), seed: maphash.MakeSeed()}
}

var errPlaces = errors.New("too many lookups in progress")

// enter waits until then for a place for host i. Call leave when the lookup is done.
func (g *gathering) enter(until time.Time, i int) (leave func(), err error) {
	var shared chan struct{}
	switch {
	case g.Hosts == nil || g.by.CacheOnly:
	case g.by.Untrusted:
		shared = g.Hosts.untrusted
	case i >= policy.FirstHosts:
		shared = g.Hosts.others
	}
	if shared == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithDeadline(g.ctx, until)
	defer cancel()
	select {
	case shared <- struct{}{}:
		return func() { <-shared }, nil
	case <-ctx.Done():
		return nil, errPlaces
	}
}

// noteSigned remembers whether the addresses of a host are secure. Remote senders change nothing.
func (g *gathering) noteSigned(host string, addresses dns.Status) {
	if g.Hosts == nil || g.by.CacheOnly || g.by.Untrusted || addresses == dns.Indeterminate {
		return
	}
	if slot, hash := g.Hosts.slot(host); addresses == dns.Secure {
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
