package probe

import (
	"context"
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
	slowed        = 10 * time.Second
	netPerSecond  = 1 // connections to one /24 or /48
	netMost       = 20
	maxNetworks   = 4096
	patience      = 2 * time.Second // the longest that a worker waits
)

// rates bound the connections.
type rates struct {
	all *rate.Limiter

	mu       sync.Mutex
	networks map[netip.Prefix]*rate.Limiter
	rest     *rate.Limiter // for all networks that find no room in the map
}

func newRates() *rates {
	return &rates{
		all:      rate.NewLimiter(perSecond, perSecondMost),
		networks: map[netip.Prefix]*rate.Limiter{},
		rest:     rate.NewLimiter(netPerSecond, netMost),
	}
}

// slow sets the rate for a port that appears to be blocked on our side.
func (r *rates) slow(yes bool) {
	if yes {
		r.all.SetLimit(rate.Every(slowed))
		return
	}
	r.all.SetLimit(perSecond)
}

// admit takes the connections to addrs out of the rates of their networks, and all but the first, which the worker
// has taken, out of the rate over all, on credit: those who come later wait for them. It waits a little for the
// networks if it must, and takes nothing where that is not enough: it then returns after what time to try again.
func (r *rates) admit(ctx context.Context, addrs []netip.Addr) time.Duration {
	count := map[netip.Prefix]int{}
	for _, a := range addrs {
		count[address.Network(a)]++
	}
	now := time.Now()
	var taken []*rate.Reservation
	var wait time.Duration
	for n, connections := range count {
		taken = append(taken, r.limiter(n, now).ReserveN(now, min(connections, netMost)))
		wait = max(wait, taken[len(taken)-1].DelayFrom(now))
	}
	if wait <= patience {
		r.all.ReserveN(now, len(addrs)-1)
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			return 0
		case <-ctx.Done():
		}
	}
	for _, t := range taken {
		t.CancelAt(now)
	}
	return max(wait, patience)
}

// limiter returns the limiter of a network. Where there is no room, those that are at rest go.
func (r *rates) limiter(n netip.Prefix, now time.Time) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l, ok := r.networks[n]; ok {
		return l
	}
	if len(r.networks) >= maxNetworks {
		for other, l := range r.networks {
			if l.TokensAt(now) >= netMost {
				delete(r.networks, other)
			}
		}
		if len(r.networks) >= maxNetworks {
			return r.rest
		}
	}
	l := rate.NewLimiter(netPerSecond, netMost)
	r.networks[n] = l
	return l
}
