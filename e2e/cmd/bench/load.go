package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// load asks about domains for the time d, over a number of connections with one request at a time on each. All domains
// have the same answer. It returns how long each answer took.
func (s *server) load(ctx context.Context, domains []string, answer string, connections int,
	d time.Duration) []time.Duration {
	const grace = 30 * time.Second
	var requests [][]byte
	for _, domain := range domains {
		requests = append(requests, socketmap.AppendNetstring(nil, s.table+" "+domain))
	}
	want := socketmap.AppendNetstring(nil, answer)
	took := make([][]time.Duration, connections)
	until := time.Now().Add(d)
	must.Each(connections, connections, func(i int) {
		var dialer net.Dialer
		c := must.Get(dialer.DialContext(ctx, "unix", strings.TrimPrefix(s.Address, "unix:")))
		defer func() { _ = c.Close() }()
		must.Do(c.SetDeadline(until.Add(grace)))
		took[i] = make([]time.Duration, 0, 1<<14)
		reply := make([]byte, len(want))
		for now := time.Now(); now.Before(until); {
			must.Get(c.Write(requests[rand.IntN(len(requests))]))
			must.Get(io.ReadFull(c, reply))
			must.Be(bytes.Equal(reply, want), "%s: an unexpected reply", s.Address)
			end := time.Now()
			took[i] = append(took[i], end.Sub(now))
			now = end
		}
	})
	return slices.Concat(took...)
}

// median returns the median of values, which it sorts.
func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
