package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// hot is how many domains the watcher asks for, in turn. They do not expire while it watches.
const hot = 100

func hotDomain(i int) string { return numbered("h", i%hot) }

// watch looks and prints what it saw. It is a process of its own, so that it sees no collector but that of policyd.
func watch(ctx context.Context, address string, d time.Duration) error {
	debug.SetGCPercent(-1)
	end, err := watchStalls(ctx)
	if err != nil {
		return err
	}
	s, slow, err := look(ctx, address, d)
	stalls, failed := end()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	s.forgive(slow, stalls)
	_, err = fmt.Println(s.n, s.longest.Nanoseconds(), s.over, s.own.Nanoseconds(), s.ownOver)
	return err
}

// look asks for hot domains on one connection, one request after the other. It returns the slow ones too.
func look(ctx context.Context, address string, d time.Duration) (s seen, slow []span, err error) {
	c, err := dial(ctx, address)
	if err != nil {
		return s, nil, err
	}
	defer func() { _ = c.Close() }()
	t := target{address: address}
	for i := range hot {
		t.requests = append(t.requests, socketmap.AppendNetstring(nil, "tls-policy "+hotDomain(i)))
	}
	policy := "OK secure match=starttls-mx." + hotDomain(0) + " servername=hostname"
	at := time.Now()
	took, err := t.expect(policy, "OK secure match=starttls-mx.h0").drive(c, at.Add(d))
	s.n = len(took)
	for _, one := range took {
		s.longest = max(s.longest, one)
		if one > limit {
			s.over++
		}
		if one > late {
			slow = append(slow, span{at, at.Add(one)})
		}
		at = at.Add(one) // each is sent when the one before has been answered
	}
	return s, slow, err
}

// limit is what no request may take.
const limit = 10 * time.Millisecond

// seen is what a watcher saw.
type seen struct {
	longest time.Duration
	over, n int // requests over the limit, requests

	// The same, the stalls of the machine taken off.
	own     time.Duration
	ownOver int

	counted           bool    // that the server tells the following
	gone, collections float64 // entries that were swept out or evicted, rounds of the garbage collector
}

// forgive takes stalls off what was seen; slow are the requests that took more than late.
func (s *seen) forgive(slow, stalls []span) {
	s.own, s.ownOver = min(s.longest, late), 0
	for _, r := range slow {
		own := r.without(stalls)
		s.own = max(s.own, own)
		if own > limit {
			s.ownOver++
		}
	}
}
