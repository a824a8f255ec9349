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
	perSecond    = 10 // connections per second, in total
	burst        = 40 // connections after a quiet time, in total
	netPerSecond = 1  // connections per second to one /24 or /48
	netBurst     = 20 // connections after a quiet time, to one network
	maxNetworks  = 4096
)

// rates bound the connections.
type rates struct {
	all *rate.Limiter

	seed     maphash.Seed
	mu       sync.Mutex
	networks [maxNetworks]*rate.Limiter // by the hash of the network: networks with the same hash share a rate
}

func newRates() *rates {
	return &rates{all: rate.NewLimiter(perSecond, burst), seed: maphash.MakeSeed()}
}

// admit takes the connections to addrs from the rates of their networks. It also takes all but the first, which Run has
// taken, from the total rate, on credit: later probes wait for them. If a network does not allow its connections yet,
// admit takes nothing and returns how long to wait before trying again.
func (r *rates) admit(addrs []netip.Addr) (retryAfter time.Duration) {
	count := map[*rate.Limiter]int{}
	for _, a := range addrs {
		count[r.limiter(a)]++
	}
	now := time.Now()
	var taken []*rate.Reservation
	for l, connections := range count {
		reservation := l.ReserveN(now, min(connections, netBurst))
		taken = append(taken, reservation)
		retryAfter = max(retryAfter, reservation.DelayFrom(now))
	}
	if retryAfter == 0 {
		r.all.ReserveN(now, len(addrs)-1)
		return 0
	}
	for _, reservation := range taken {
		reservation.CancelAt(now)
	}
	return retryAfter
}

// limiter returns the limiter of the network of an address.
func (r *rates) limiter(a netip.Addr) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.networks[maphash.Comparable(r.seed, address.Network(a))%maxNetworks]
	if *l == nil {
		*l = rate.NewLimiter(netPerSecond, netBurst)
	}
	return *l
}
