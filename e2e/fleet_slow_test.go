//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// slowly listens on a unix socket and forwards each connection to another one; every byte arrives after a delay.
func slowly(t *testing.T, from, to string, delay time.Duration) {
	t.Helper()
	l, err := net.Listen("unix", from)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", to)
			if err != nil {
				return // the store is gone
			}
			go forward(client, server, delay)
			go forward(server, client, delay)
		}
	}()
}

// forward copies from one connection to the other until either fails. The delay does not limit the throughput.
func forward(from, to net.Conn, delay time.Duration) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	chunks := make(chan chunk, 1024)
	defer close(chunks)
	go func() {
		for c := range chunks {
			time.Sleep(time.Until(c.due))
			_, _ = to.Write(c.data) // a broken connection ends the reads below too
		}
		_, _ = to.Close(), from.Close()
	}()
	for {
		data := make([]byte, 32<<10)
		n, err := from.Read(data)
		if err != nil {
			return
		}
		chunks <- chunk{data[:n], time.Now().Add(delay)}
	}
}

// TestFleetSlowStore compares a node whose store answers after 400 ms with a node that has no store. It checks that all
// answers are right, and only prints how long they take: timings on a busy machine prove nothing.
func TestFleetSlowStore(t *testing.T) {
	const connections, domains, repeats = 4, 250, 50
	l := newLab(t, lab.Options{})
	shared := l.Host(lab.Host{Name: "starttls-mx.slow.test", On25: lab.STARTTLS})
	right := map[string]string{} // the answers
	var keys [connections][]string
	for i := range keys {
		sts := fmt.Sprintf("sts%d.test", i)
		policyOf(l, sts)
		right[sts], keys[i] = secureSTS(sts), []string{sts}
		for j := range domains {
			domain := fmt.Sprintf("d%d-%d.test", i, j)
			l.MX(domain, shared.Name)
			right[domain], keys[i] = "OK secure match="+shared.Name+" servername=hostname", append(keys[i], domain)
		}
	}
	require.NoError(t, l.Start(t.Context()))

	_, socket := redisOnSocket(t)
	slow := filepath.Join(t.TempDir(), "slow.sock")
	slowly(t, slow, socket, 200*time.Millisecond)
	f := &site{lab: l, dir: t.TempDir(), url: "unix://" + slow}
	nodes := [2]*node{f.start(t, "alone", ""), f.start(t, "slow", f.key(t, "site"))}
	eventually(t, "the node reaches the slow store", func() bool { return nodes[1].status(t).Fleet.Up })

	for _, kind := range []string{"cold", "cached"} {
		rounds := 1
		if kind == "cached" {
			rounds = repeats
		}
		var took [2][connections][]time.Duration
		var all sync.WaitGroup
		for i := range connections {
			all.Go(func() {
				var clients [2]*socketmap.Client
				for n := range clients {
					var err error
					if clients[n], err = socketmap.Dial(t.Context(), nodes[n].Address); !assert.NoError(t, err) {
						return
					}
				}
				for q := range 2 * rounds * len(keys[i]) {
					domain := keys[i][q/2%len(keys[i])]
					n := (q/2 + q) % 2 // each node is first for half of the keys
					start := time.Now()
					reply, err := clients[n].Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: domain})
					took[n][i] = append(took[n][i], time.Since(start))
					if err != nil || !assert.Equal(t, right[domain], reply.String(), nodes[n].Address) {
						t.Errorf("%s at %s: %v", domain, nodes[n].Address, err)
						return
					}
				}
			})
		}
		all.Wait()
		require.False(t, t.Failed())
		quantile := func(n int, q float64) time.Duration {
			sorted := slices.Sorted(slices.Values(slices.Concat(took[n][:]...)))
			return sorted[int(q*float64(len(sorted)-1))]
		}
		for _, q := range []float64{0.5, 0.999} {
			alone, with := quantile(0, q), quantile(1, q)
			t.Logf("%s, quantile %g: %v without a store, %v with a slow one, ratio %.2f", kind, q, alone, with, float64(with)/float64(alone))
		}
	}
	eventually(t, "the records are in the store", func() bool { return cli("-s", socket, "exists", "policyd:r:sts:sts0.test") == "1\n" })
}

// TestFleetFullDisk merges a peer's record while the file system of the state directory has no room.
func TestFleetFullDisk(t *testing.T) {
	l := newLab(t, lab.Options{})
	policies := policyOf(l, "fleet.test")
	require.NoError(t, l.Start(t.Context()))
	store, socket := redisOnSocket(t)
	f := &site{lab: l, dir: t.TempDir(), url: "unix://" + socket}
	key, disk := f.key(t, "site"), filepath.Join(f.dir, "full", "state")
	require.Equal(t, secureSTS("fleet.test"), f.start(t, "peer", key).ask(t, "fleet.test"))
	eventually(t, "the policy is in the store", func() bool { return cli("-s", socket, "exists", "policyd:r:sts:fleet.test") == "1\n" })
	policies.Close() // no node can fetch this policy from now on

	require.NoError(t, os.MkdirAll(disk, 0o700))
	require.NoError(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=0700,size=512k"))
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	filler := filepath.Join(disk, "filler")
	require.ErrorIs(t, os.WriteFile(filler, make([]byte, 1<<20), 0o600), unix.ENOSPC)
	n := f.start(t, "full", key)
	eventually(t, "the peer's record is used", func() bool { return n.ask(t, "fleet.test") == secureSTS("fleet.test") })
	require.Contains(t, n.Log.String(), "state database cannot be written")
	require.NoError(t, os.Remove(filler))
	eventually(t, "there is room again", func() bool { return strings.Contains(n.Log.String(), "state database can be written again") })
	require.NoError(t, n.Stop())

	require.NoError(t, store.Process.Kill())
	require.Equal(t, secureSTS("fleet.test"), f.start(t, "full", key).ask(t, "fleet.test"), "the record was kept on the disk")
}
