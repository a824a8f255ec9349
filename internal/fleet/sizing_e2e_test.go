//go:build e2e

package fleet_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/fleet"
)

// For the table: go test -tags e2e ./internal/fleet -run TestSizing -v -args -nodes 500 -domains 1000000
func sizingFlags() (nodes, domains *int) {
	return flag.Int("nodes", 50, "nodes of the simulated fleet"), flag.Int("domains", 20_000, "domains with a promise")
}

var simulatedNodes, simulatedDomains = sizingFlags()

// TestSizing prints what a fleet costs its server. Traffic is simulated for two days; sizes and the time that a new node
// needs are measured with a real server.
func TestSizing(t *testing.T) {
	nodes, domains := *simulatedNodes, *simulatedDomains
	day := simulate(nodes, domains, 2)
	require.Less(t, day.writes, 2*domains+nodes*domains/10, "what a peer has written today is not written again")
	require.GreaterOrEqual(t, day.writes, day.seen)

	s, key := startServer(t), fleet.NewKey()
	a, run := newNode(t, s, key)
	const policy = `{"id":"20261128T000000","lines":["version: STSv1","mode: enforce","mx: mx1.example.com","mx: mx2.example.com","max_age: 604800"]}`
	for i := range domains {
		a.policies.set(fmt.Sprintf("some-company-%d.example", i), policy)
	}
	run()
	require.Eventually(t, func() bool { return a.Stats().Sent == uint64(domains) }, 10*time.Minute, 50*time.Millisecond)
	memory := usedMemory(t, s)
	begun := time.Now()
	fresh := startNode(t, s, key)
	require.Eventually(t, func() bool { return fresh.policies.size() == domains }, 10*time.Minute, 10*time.Millisecond)
	took := time.Since(begun)

	const record = 300 // octets of a policy record on the wire
	t.Logf(`
nodes                                   %12d
domains with a promise                  %12d
deliveries in a day                     %12d
records written in a day                %12d
operations per second on the server     %12.0f   writes, and a read of the stream by each node every 10 s
memory of the server                    %9.0f MiB   with the stream
traffic to one node in a day            %9.0f MiB
a new node knows everything after       %12s`,
		nodes, domains, day.deliveries, day.writes, float64(3*day.writes)/86400+4*float64(nodes)/10,
		memory/(1<<20), float64(day.writes)*record/(1<<20), took.Round(10*time.Millisecond))
}

func usedMemory(t *testing.T, s *server) float64 {
	t.Helper()
	info := s.client().Info(t.Context(), "memory").Val()
	_, rest, _ := strings.Cut(info, "used_memory:")
	n, err := strconv.ParseFloat(strings.TrimSpace(rest[:strings.IndexAny(rest, "\r\n")]), 64)
	require.NoError(t, err)
	return n
}

// traffic is what happens on the last simulated day.
type traffic struct{ deliveries, seen, writes int }

// simulate plays the deliveries of some days: each node delivers to the domains of the fleet by Zipf's law, and writes a
// record when it sees a promise on a new day and has not yet read that a peer did.
func simulate(nodes, domains, days int) traffic {
	const perNode = 20_000 // deliveries of a node in a day
	const pull = 10 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(random, 1.05, 20, uint64(domains-1))
	var last traffic
	for range days {
		last = traffic{deliveries: nodes * perNode}
		first := make(map[uint64]time.Duration, domains) // when a record of today was written
		wrote := map[[2]uint64]bool{}
		step := 24 * time.Hour / time.Duration(last.deliveries)
		for i := range last.deliveries {
			now, node, domain := step*time.Duration(i), random.Uint64N(uint64(nodes)), zipf.Uint64()
			at, known := first[domain]
			switch {
			case !known:
				first[domain] = now
				wrote[[2]uint64{node, domain}] = true
				last.seen++
				last.writes++
			case now-at < pull && !wrote[[2]uint64{node, domain}]:
				// The peer's record has not been read yet: counted as a write, though it is left out when it is the same.
				wrote[[2]uint64{node, domain}] = true
				last.writes++
			}
		}
	}
	return last
}
