package mtasts

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/dns"
)

const (
	maxAddrs        = 8           // how many addresses of a policy host are tried
	otherFamilyWait = time.Second // how long a fetch waits for the other address family when it has one
)

// candidate is an address of a policy host.
type candidate struct {
	addr netip.Addr
	more bool // others may follow
}

// candidates yields the addresses of a policy host in the order in which to try them, and at the end the reasons why
// there are no more. One address family is enough to begin; the other joins when its answer arrives.
func (f *Fetcher) candidates(ctx context.Context, host string) iter.Seq2[candidate, error] {
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	return func(yield func(candidate, error) bool) {
		var lookups sync.WaitGroup
		defer lookups.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		families := []dns.Type{dns.TypeA, dns.TypeAAAA}
		answers, waiting := make(chan answer, len(families)), len(families)
		for _, t := range families {
			lookups.Go(func() {
				addrs, err := f.addresses(ctx, host, t)
				answers <- answer{addrs, err}
			})
		}
		both, cancelBoth := context.WithTimeout(ctx, otherFamilyWait) // while one family waits for the other
		defer cancelBoth()
		var list []netip.Addr // not tried yet
		var problems []error
		tried := 0
		for ; tried < maxAddrs; tried++ {
			for begin := false; waiting > 0 && !begin; {
				over := both.Done()
				if len(list) == 0 {
					over = nil
				}
				select {
				case a := <-answers:
					waiting--
					problems = append(problems, a.err)
					for i, addr := range a.addrs { // the families alternate
						list = slices.Insert(list, min(2*i+1, len(list)), addr)
					}
				case <-over:
					begin = true
				}
			}
			if len(list) == 0 {
				break
			}
			if !yield(candidate{list[0], len(list) > 1 || waiting > 0}, nil) {
				return
			}
			list = list[1:]
		}
		err := errors.Join(problems...)
		if err == nil && tried == 0 {
			err = errors.New("the policy host has no address")
		}
		if err != nil {
			yield(candidate{}, err)
		}
	}
}

// addresses looks up the addresses of one family. The error names those that must not be connected to.
func (f *Fetcher) addresses(ctx context.Context, host string, t dns.Type) ([]netip.Addr, error) {
	rrset, err := f.Resolver.Lookup(ctx, dns.Question{Name: host, Type: t}, dns.Effort{})
	switch {
	case err != nil:
		return nil, err
	case f.Special:
		return rrset.Addrs(), nil
	}
	ordinary, special := address.Split(rrset.Addrs())
	if len(special) > 0 {
		err = fmt.Errorf("special-purpose addresses are not allowed: %s", address.Join(special))
	}
	return ordinary, err
}
