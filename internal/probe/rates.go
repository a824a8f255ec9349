package probe

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/address"
)

// The rates. A remote party can publish any address in DNS, so these bounds hold for every network.
const (
	perSecond     = 10 // connections, over all
	perSecondMost = 40 // of these in a burst, after a quiet time
	netPerSecond  = 1  // connections to one /24 or /48
	netMost       = 20
	maxNetworks   = 4096
)

// rates bound the connections.
type rates struct {
	all *rate.Limiter

	seed     maphash.Seed
	mu       sync.Mutex
	networks [maxNetworks]*rate.Limiter // by the hash of the network: networks with the same hash share a rate
}

func newRates() *rates {
	return &rates{all: rate.NewLimiter(perSecond, perSecondMost), seed: maphash.MakeSeed()}
}

// admit takes the connections to addrs out of the rates of their networks, and all but the first, which Run has taken,
// out of the rate over all, on credit: those who come later wait for them. Where a network does not allow them yet, it
// takes nothing and returns after what time to try again.
func (r *rates) admit(addrs []netip.Addr) (late time.Duration) {
	count := map[*rate.Limiter]int{}
	for _, a := range addrs {
		count[r.limiter(a)]++
	}
	now := time.Now()
	var taken []*rate.Reservation
	for l, connections := range count {
		taken = append(taken, l.ReserveN(now, min(connections, netMost)))
		late = max(late, taken[len(taken)-1].DelayFrom(now))
	}
	if late == 0 {
		r.all.ReserveN(now, len(addrs)-1)
		return 0
	}
	for _, t := range taken {
		t.CancelAt(now)
	}
	return late
}

// limiter returns the limiter of the network of an address.
func (r *rates) limiter(a netip.Addr) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.networks[maphash.Comparable(r.seed, address.Network(a))%maxNetworks]
	if *l == nil {
		*l = rate.NewLimiter(netPerSecond, netMost)
	}
	return *l
}
