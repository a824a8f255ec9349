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

	"github.com/policyd/policyd/socketmap"
)

// target is a server under load: every request has a reply of the same size that begins the same.
type target struct {
	address  string
	requests [][]byte
	begins   string // with the length of the netstring
	size     int
}

// expect has the target reply with netstrings like that of text, in which only the part behind begins changes.
func (t target) expect(text, begins string) target {
	wire := string(socketmap.AppendNetstring(nil, text))
	head, _, _ := strings.Cut(wire, text)
	t.begins, t.size = head+begins, len(wire)
	return t
}

// sample is what a load has measured.
type sample struct {
	rate float64         // requests a second
	took []time.Duration // of each request
}

// load asks over so many connections, one request at a time on each, for so long.
func (t target) load(ctx context.Context, connections int, d time.Duration) (sample, error) {
	conns := make([]net.Conn, connections)
	for i := range conns {
		c, err := dial(ctx, t.address)
		if err != nil {
			return sample{}, err
		}
		defer func() { _ = c.Close() }()
		conns[i] = c
	}
	took := make([][]time.Duration, connections)
	var group errgroup.Group
	begin := time.Now()
	for i, c := range conns {
		group.Go(func() error {
			var err error
			took[i], err = t.drive(c, begin.Add(d))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return sample{}, fmt.Errorf("%s: %w", t.address, err)
	}
	elapsed := time.Since(begin)
	all := slices.Concat(took...)
	return sample{rate: float64(len(all)) / elapsed.Seconds(), took: all}, nil
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// drive asks on one connection until the time is over.
func (t target) drive(c net.Conn, until time.Time) ([]time.Duration, error) {
	const patience = 30 * time.Second
	if err := c.SetDeadline(until.Add(patience)); err != nil {
		return nil, err
	}
	took := make([]time.Duration, 0, 1<<14)
	reply := make([]byte, t.size)
	for now := time.Now(); now.Before(until); {
		if _, err := c.Write(t.requests[rand.IntN(len(t.requests))]); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, reply); err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(reply, []byte(t.begins)) {
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
