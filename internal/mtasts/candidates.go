package mtasts

import (
	"context"
	"iter"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/dns"
)

const (
	maxAddrs        = 8           // how many addresses of a policy host are tried
	otherFamilyWait = time.Second // how long a fetch waits for the other address family when it has one
)

// candidates yields the addresses of a policy host in the order in which to try them, and whether others may follow.
// One address family is enough to begin; the other joins when its answer arrives. The reasons why there are no more
// are added to problems.
func (f *Fetcher) candidates(ctx context.Context, host string, problems *[]error) iter.Seq2[netip.Addr, bool] {
	return func(yield func(netip.Addr, bool) bool) {
		next, waiting := dns.Addresses(ctx, f.Resolver, host, dns.Effort{}, false), 2 // families
		begin := time.Now().Add(otherFamilyWait)
		var list []netip.Addr // not tried yet
		for range maxAddrs {
			for waiting > 0 {
				until := begin
				if len(list) == 0 {
					until = time.Now().Add(math.MaxInt64)
				}
				call := next(until)
				if !call.Ended() {
					if len(list) == 0 { // there is no time left
						*problems = append(*problems, call.Err)
					}
					break
				}
				waiting--
				addrs, err := f.allowed(call)
				*problems = append(*problems, err)
				for i, addr := range addrs { // the families alternate
					list = slices.Insert(list, min(2*i+1, len(list)), addr)
				}
			}
			if len(list) == 0 || !yield(list[0], len(list) > 1 || waiting > 0) {
				return
			}
			list = list[1:]
		}
	}
}

// allowed returns the addresses in an answer that may be connected to. The error names the others.
func (f *Fetcher) allowed(call *dns.Call) ([]netip.Addr, error) {
	switch {
	case call.Err != nil:
		return nil, call.Err
	case f.Special:
		return call.RRset.Addrs(), nil
	}
	return address.Ordinary(call.RRset.Addrs())
}
