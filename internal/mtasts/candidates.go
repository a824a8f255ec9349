package mtasts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/dns"
)

const (
	maxAddrs        = 8           // how many addresses of a policy host are tried
	otherFamilyWait = time.Second // how long a fetch waits for the other address family when it has one
)

// candidates are the addresses of a policy host, in the order in which they are tried. One address family is enough to
// begin; the other joins when its answer arrives.
type candidates struct {
	cancel  context.CancelFunc
	group   sync.WaitGroup
	answers chan familyAnswer
	waiting int           // for so many answers
	late    chan struct{} // closed when one family no longer waits for the other
	special bool          // allow special-purpose addresses

	list    []netip.Addr // not tried yet
	tried   int
	refused []netip.Addr // special-purpose addresses
	errs    []error      // of the lookups
}

type familyAnswer struct {
	addrs []netip.Addr
	err   error
}

// newCandidates begins the lookups. The caller must call close.
func (f *Fetcher) newCandidates(ctx context.Context, host string) *candidates {
	families := []dns.Type{dns.TypeA, dns.TypeAAAA}
	c := &candidates{
		answers: make(chan familyAnswer, len(families)), waiting: len(families),
		late: make(chan struct{}), special: f.Special,
	}
	ctx, c.cancel = context.WithCancel(ctx)
	time.AfterFunc(otherFamilyWait, func() { close(c.late) })
	for _, t := range families {
		c.group.Go(func() {
			rrset, err := f.Resolver.Lookup(ctx, dns.Question{Name: host, Type: t}, dns.Effort{})
			if err != nil {
				rrset = &dns.RRset{}
			}
			c.answers <- familyAnswer{rrset.Addrs(), err}
		})
	}
	return c
}

// close ends the lookups.
func (c *candidates) close() {
	c.cancel()
	c.group.Wait()
}

// next returns the next address, and whether more may follow. ok is false at the end of the list. It waits for the
// lookups, which end with their context.
func (c *candidates) next() (a netip.Addr, more, ok bool) {
waiting:
	for c.waiting > 0 {
		late := c.late
		if len(c.list) == 0 {
			late = nil
		}
		select {
		case answer := <-c.answers:
			c.add(answer)
		case <-late:
			break waiting
		}
	}
	if len(c.list) == 0 || c.tried == maxAddrs {
		return netip.Addr{}, false, false
	}
	a, c.list = c.list[0], c.list[1:]
	c.tried++
	return a, len(c.list) > 0 || c.waiting > 0, true
}

// add puts the addresses of a family into the list, so that the families alternate.
func (c *candidates) add(answer familyAnswer) {
	c.waiting--
	if answer.err != nil {
		c.errs = append(c.errs, answer.err)
		return
	}
	addrs := answer.addrs
	if !c.special {
		var refused []netip.Addr
		addrs, refused = address.Split(addrs)
		c.refused = append(c.refused, refused...)
	}
	var list []netip.Addr
	for i := range max(len(c.list), len(addrs)) {
		if i < len(c.list) {
			list = append(list, c.list[i])
		}
		if i < len(addrs) {
			list = append(list, addrs[i])
		}
	}
	c.list = list
}

// problems returns why there are no more addresses.
func (c *candidates) problems() []error {
	errs := c.errs
	if len(c.refused) > 0 {
		errs = append(errs, fmt.Errorf("special-purpose addresses are not allowed: %s", address.Join(c.refused)))
	}
	if len(errs) == 0 && c.tried == 0 {
		errs = append(errs, errors.New("the policy host has no address"))
	}
	return errs
}
