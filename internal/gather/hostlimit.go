package gather

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/policy"
)

// HostLimit bounds the lookups about hosts that hostile domains can name in great number. A domain with one good MX host and
// 31 whose name servers are silent would otherwise hold so many places in the resolver that other domains wait.
//
// The first few hosts of a next hop that mail is sent to never wait for a place. The others share a number of places,
// and so do all hosts of domains that remote senders chose, who cannot take the place of mail that leaves.
type HostLimit struct {
	others, untrusted *semaphore.Weighted
}

const (
	otherPlaces     = 64 // places for the others
	untrustedPlaces = 64
)

// NewHostLimit returns a HostLimit with all places free.
func NewHostLimit() *HostLimit {
	return &HostLimit{others: semaphore.NewWeighted(otherPlaces), untrusted: semaphore.NewWeighted(untrustedPlaces)}
}

var errHostLimit = errors.New("too many lookups in progress")

// enter waits for a place for host i for at most the given time, and returns what is left of it. Call leave when the
// lookup is done. A nil HostLimit has a place for every host.
func (l *HostLimit) enter(g *gathering, i int, most time.Duration) (leave func(), left time.Duration, err error) {
	var places *semaphore.Weighted
	switch {
	case l == nil || g.by.CacheOnly:
	case g.by.Untrusted:
		places = l.untrusted
	case i >= policy.FirstHosts:
		places = l.others
	}
	if places == nil {
		return func() {}, most, nil
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(g.ctx, most)
	defer cancel()
	if places.Acquire(ctx, 1) != nil {
		return nil, 0, errHostLimit
	}
	return func() { places.Release(1) }, max(most-time.Since(start), 1), nil
}
