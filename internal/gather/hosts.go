package gather

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/policyd/policyd/internal/policy"
)

// Hosts bounds the lookups about MX hosts: a domain with one good host and 31 whose name servers are silent would
// otherwise hold so many places in the resolver that other domains wait. The first hosts of a next hop that mail is
// sent to need no place. The others share a number of places, and so do all hosts of domains that remote senders chose.
// It also remembers which hosts were signed.
type Hosts struct {
	others, untrusted chan struct{} // an element per place that is taken
	signed            signed
}

const places = 64 // of each kind

// NewHosts returns a Hosts with all places free.
func NewHosts() *Hosts {
	return &Hosts{others: make(chan struct{}, places), untrusted: make(chan struct{}, places),
		signed: signed{seed: maphash.MakeSeed()}}
}

var errPlaces = errors.New("too many lookups in progress")

// enter waits for a place for host i, but not longer than until. Call leave when the lookup is done.
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
