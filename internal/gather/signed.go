package gather

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/policyd/policyd/internal/dns"
)

// signed remembers by hash which hosts had secure addresses when they were last looked up. Their TLSA records can be
// asked for together with their addresses, which saves a round trip. See policy.Need.
type signed struct {
	seed  maphash.Seed
	slots [1 << 13]atomic.Uint64
}

// noteSigned remembers whether the addresses of a host are secure. Lookups that remote senders cause change nothing.
func (g *gathering) noteSigned(host string, addresses dns.Status) {
	if g.Hosts == nil || g.by.CacheOnly || g.by.Untrusted || addresses == dns.Indeterminate {
		return
	}
	if slot, hash := g.Hosts.signed.slot(host); addresses == dns.Secure {
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
	slot, hash := g.Hosts.signed.slot(host)
	return slot.Load() == hash
}

func (s *signed) slot(host string) (slot *atomic.Uint64, hash uint64) {
	hash = maphash.String(s.seed, host)
	return &s.slots[hash%uint64(len(s.slots))], hash
}
