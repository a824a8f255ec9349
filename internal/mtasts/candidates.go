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
		lookup := dns.StartAddresses(ctx, f.Resolver, host, dns.Effort{}, dns.BothFamilies)
		unanswered := 2 // address families
		begin := time.Now().Add(otherFamilyWait)
		var list []netip.Addr // not tried yet
		for range maxAddrs {
			for unanswered > 0 {
				until := begin
				if len(list) == 0 { // without an address only ctx limits the wait
					until = time.Now().Add(math.MaxInt64)
				}
				answer := lookup.Next(until)
				if answer.Late {
					if len(list) == 0 {
						*problems = append(*problems, answer.Err)
					}
					break
				}
				unanswered--
				addrs, err := f.allowed(answer)
				*problems = append(*problems, err)
				for i, addr := range addrs { // the families alternate
					list = slices.Insert(list, min(2*i+1, len(list)), addr)
				}
			}
			if len(list) == 0 || !yield(list[0], len(list) > 1 || unanswered > 0) {
				return
			}
			list = list[1:]
		}
	}
}

// allowed returns the addresses in an answer that may be connected to. The error names the others.
func (f *Fetcher) allowed(answer dns.AddressAnswer) ([]netip.Addr, error) {
	if answer.Err != nil {
		return nil, answer.Err
	}
	if f.Special {
		return answer.RRset.Addrs(), nil
	}
	return address.Ordinary(answer.RRset.Addrs())
}
