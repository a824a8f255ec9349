package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// target is a server under load that gives every request the same reply.
type target struct {
	address  string
	requests [][]byte
	reply    []byte
}

// load asks over so many connections, one request at a time on each, for d. It returns how long each answer took.
func (t target) load(ctx context.Context, connections int, d time.Duration) ([]time.Duration, error) {
	took := make([][]time.Duration, connections)
	group, ctx := errgroup.WithContext(ctx)
	until := time.Now().Add(d)
	for i := range connections {
		group.Go(func() error {
			var dialer net.Dialer
			c, err := dialer.DialContext(ctx, "unix", strings.TrimPrefix(t.address, "unix:"))
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			took[i], err = t.drive(c, until)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", t.address, err)
	}
	return slices.Concat(took...), nil
}

// drive asks on one connection until the time is over.
func (t target) drive(c net.Conn, until time.Time) ([]time.Duration, error) {
	const patience = 30 * time.Second
	if err := c.SetDeadline(until.Add(patience)); err != nil {
		return nil, err
	}
	took := make([]time.Duration, 0, 1<<14)
	reply := make([]byte, len(t.reply))
	for now := time.Now(); now.Before(until); {
		if _, err := c.Write(t.requests[rand.IntN(len(t.requests))]); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, reply); err != nil {
			return nil, err
		}
		if !bytes.Equal(reply, t.reply) {
			return nil, fmt.Errorf("an unexpected reply: %q", reply)
		}
		end := time.Now()
		took = append(took, end.Sub(now))
		now = end
	}
	return took, nil
}

// quantile returns the time within which that part of the requests was answered. The times are sorted.
func quantile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// median of an odd or even number of values; it sorts them.
func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
