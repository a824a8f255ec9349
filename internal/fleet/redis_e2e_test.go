//go:build e2e

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/promises"
)

func TestMain(m *testing.M) {
	fleet.DiscardClientLog()
	os.Exit(m.Run())
}

// valkeyEnv makes startServer start Valkey.
const valkeyEnv = "FLEET_VALKEY"

// TestValkey runs the other tests with Valkey, which make deps has unpacked, and its own libraries.
func TestValkey(t *testing.T) {
	const root = "../../bin/valkey/root"
	loader, err := filepath.Glob(root + "/usr/lib/*/ld-linux*.so.*")
	require.NoError(t, err)
	require.NotEmpty(t, loader, "run make deps")
	command := []string{loader[0], "--library-path", filepath.Dir(loader[0]), root + "/usr/bin/valkey-server"}
	out, err := exec.Command(command[0], append(command[1:], "--version")...).Output()
	require.NoError(t, err)
	require.Regexp(t, `Valkey server v=[89]`, string(out))
	t.Setenv(valkeyEnv, strings.Join(command, " "))
	for name, test := range map[string]func(*testing.T){
		"what one node learns, all know": TestWhatOneNodeLearnsReachesAll, "tampered records": TestRecordsThatWereTamperedWithAreIgnoredAndCounted,
		"flushed": TestAStoreThatIsFlushedIsFilledAgain, "partition": TestAPartitionHeals, "hangs": TestAServerThatHangsBlocksNothing,
		"full": TestAFullServerIsAFailureAndNothingMore, "key": TestTheKeyOfTheSiteCanBeChanged,
		"100,000 records": TestAHundredThousandRecordsAreReadAtStart, "promises": TestPromisesAreMergedAndNeverRemoved,
	} {
		t.Run(name, test)
	}
}

// server is a real Redis server, or a Valkey server, on a unix socket of its own.
type server struct {
	socket string
	cmd    *exec.Cmd
}

func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{socket: filepath.Join(t.TempDir(), "redis.sock")}
	s.start(t, args...)
	return s
}

func (s *server) start(t *testing.T, args ...string) {
	t.Helper()
	command := []string{"redis-server"}
	if valkey := os.Getenv(valkeyEnv); valkey != "" {
		command = strings.Split(valkey, " ")
	}
	s.cmd = exec.Command(command[0], slices.Concat(command[1:], []string{"--port", "0", "--unixsocket", s.socket, "--save", "", "--dir", filepath.Dir(s.socket)}, args)...)
	require.NoError(t, s.cmd.Start())
	process := s.cmd
	t.Cleanup(func() {
		_ = process.Process.Signal(syscall.SIGCONT)
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	c := s.client()
	defer func() { _ = c.Close() }()
	eventually(t, func() bool { return c.Ping(t.Context()).Err() == nil })
}

func (s *server) client() *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket})
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 20*time.Second, 10*time.Millisecond)
}

// memory is a Local in memory that keeps what is newer.
type memory struct {
	mu     sync.Mutex
	values map[string]value
}

// value is what a memory has about a domain.
type value struct {
	data    []byte
	learned time.Time
}

func newMemory() *memory { return &memory{values: map[string]value{}} }

func (m *memory) Domains() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.values))
}

func (m *memory) Share(domain string) ([]byte, time.Time, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.values[domain]
	return v.data, v.learned, time.Hour
}

func (m *memory) Merge(domain string, data []byte, learned time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if string(data) == "weak" {
		return false, errors.New("refused")
	}
	if old, ok := m.values[domain]; ok && !learned.After(old.learned) {
		return false, nil
	}
	m.values[domain] = value{data, learned}
	return true, nil
}

func (m *memory) set(domain, data string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[domain] = value{[]byte(data), time.Now()}
}

func (m *memory) forget(domain string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, domain)
}

func (m *memory) get(domain string) string {
	data, _, _ := m.Share(domain)
	return string(data)
}

func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.values)
}

// node is a policyd of the fleet.
type node struct {
	*fleet.Fleet
	policies *memory
}

func startNode(t *testing.T, s *server, keys ...fleet.Key) *node {
	t.Helper()
	n, run := newNode(t, s, keys...)
	run()
	return n
}

func newNode(t *testing.T, s *server, keys ...fleet.Key) (*node, func()) {
	t.Helper()
	n := &node{policies: newMemory()}
	f, err := fleet.New(fleet.Options{URL: "unix://" + s.socket, Keys: keys, Pull: 20 * time.Millisecond, Locals: map[fleet.Kind]fleet.Local{fleet.Policy: n.policies}})
	require.NoError(t, err)
	n.Fleet = f
	return n, func() {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

func (n *node) learn(domain, data string) {
	n.policies.set(domain, data)
	n.Changed(fleet.Policy, domain)
}

func TestWhatOneNodeLearnsReachesAll(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	a, b := startNode(t, s, key), startNode(t, s, key)
	a.learn("a.example", "one")
	eventually(t, func() bool { return b.policies.get("a.example") == "one" })
	b.learn("b.example", "two")
	eventually(t, func() bool { return a.policies.get("b.example") == "two" })
	late := startNode(t, s, key)
	eventually(t, func() bool { return late.policies.size() == 2 })
	sent := a.Stats().Sent + b.Stats().Sent
	eventually(t, func() bool { return late.Stats().Up })
	require.EqualValues(t, 2, sent+late.Stats().Sent, "a record that the server has is not written again")
	ttl := s.client().TTL(t.Context(), "policyd:r:sts:a.example").Val()
	require.InDelta(t, time.Hour, ttl, float64(time.Minute), "a record expires with its content")
}

func TestRecordsThatEachNodeForgotDoNotReturn(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	a, b := startNode(t, s, key), startNode(t, s, key)
	a.learn("a.example", "one")
	a.learn("again.example", "one")
	eventually(t, func() bool { return b.policies.size() == 2 })
	for _, n := range []*node{a, b} {
		n.policies.forget("a.example")
		n.policies.forget("again.example")
		n.Forgotten(fleet.Policy, "a.example")
		n.Forgotten(fleet.Policy, "again.example")
	}
	c := s.client()
	eventually(t, func() bool { return c.Exists(t.Context(), "policyd:r:sts:a.example").Val() == 0 })
	a.learn("again.example", "two")
	late := startNode(t, s, key)
	eventually(t, func() bool { return late.policies.get("again.example") == "two" })
	require.Equal(t, 1, late.policies.size())
	require.Empty(t, b.policies.get("a.example"))
}

func TestRecordsThatWereTamperedWithAreIgnoredAndCounted(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	a := startNode(t, s, key)
	a.learn("good.example", "one")
	c := s.client()
	eventually(t, func() bool { return c.Exists(t.Context(), "policyd:r:sts:good.example").Val() == 1 })
	record, err := c.Get(t.Context(), "policyd:r:sts:good.example").Bytes()
	require.NoError(t, err)
	flipped := append([]byte(nil), record...)
	flipped[len(flipped)-40] ^= 1
	set := func(domain string, value []byte) {
		require.NoError(t, c.Set(t.Context(), "policyd:r:sts:"+domain, value, 0).Err())
		require.NoError(t, c.XAdd(t.Context(), &redis.XAddArgs{Stream: "policyd:s", Values: []any{"sts:" + domain, value}}).Err())
	}
	b := startNode(t, s, key)
	eventually(t, func() bool { return b.policies.get("good.example") == "one" })
	set("flipped.example", flipped)
	set("swapped.example", record)
	set("nothing.example", nil)
	wrong := startNode(t, s, fleet.NewKey())
	wrong.learn("wrong.example", "three")
	fresh := startNode(t, s, key)
	for _, n := range []*node{b, fresh} {
		eventually(t, func() bool {
			i := n.Stats().Ignored
			return i[fleet.MAC] >= 2 && i[fleet.Misplaced] >= 1 && i[fleet.Malformed] >= 1
		})
		require.Equal(t, 1, n.policies.size())
	}
	require.Equal(t, 1, wrong.policies.size(), "a node with another key learns nothing")
	require.NoError(t, c.Set(t.Context(), "policyd:s", "not a stream", 0).Err())
	eventually(t, func() bool { return !a.Stats().Up })
	require.NotEmpty(t, a.Stats().Error)
}

func TestAStoreThatIsFlushedIsFilledAgain(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	a, b := startNode(t, s, key), startNode(t, s, key)
	a.learn("a.example", "one")
	eventually(t, func() bool { return b.policies.get("a.example") == "one" })
	c := s.client()
	require.NoError(t, c.FlushAll(t.Context()).Err())
	eventually(t, func() bool { return c.Exists(t.Context(), "policyd:r:sts:a.example").Val() == 1 })
	a.learn("later.example", "two")
	eventually(t, func() bool { return b.policies.get("later.example") == "two" })
}

func TestAPartitionHeals(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	a, b := startNode(t, s, key), startNode(t, s, key)
	eventually(t, func() bool { return a.Stats().Up && b.Stats().Up })
	require.NoError(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	eventually(t, func() bool { return !a.Stats().Up && !b.Stats().Up })
	a.learn("a.example", "one")
	b.learn("b.example", "two")
	s.start(t)
	eventually(t, func() bool { return b.policies.get("a.example") == "one" && a.policies.get("b.example") == "two" })
}

func TestAServerThatHangsBlocksNothing(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	a := startNode(t, s, key)
	eventually(t, func() bool { return a.Stats().Up })
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGSTOP))
	for i := range 1000 {
		a.learn(fmt.Sprintf("d%d.example", i), "one")
	}
	eventually(t, func() bool { return !a.Stats().Up && a.Stats().Failures > 0 })
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGCONT))
	eventually(t, func() bool { return a.Stats().Sent == 1000 })
}

func TestAFullServerIsAFailureAndNothingMore(t *testing.T) {
	s, key := startServer(t, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction"), fleet.NewKey()
	a := startNode(t, s, key)
	a.learn("a.example", string(make([]byte, 60<<10)))
	eventually(t, func() bool { return a.Stats().Error != "" })
	require.Contains(t, a.Stats().Error, "OOM")
	require.False(t, a.Stats().Up)
}

func TestTheKeyOfTheSiteCanBeChanged(t *testing.T) {
	s, first, second := startServer(t), fleet.NewKey(), fleet.NewKey()
	startNode(t, s, first).learn("old.example", "one")
	both := startNode(t, s, second, first)
	eventually(t, func() bool { return both.policies.get("old.example") == "one" })
	c := s.client()
	require.NoError(t, c.Del(t.Context(), "policyd:e").Err())
	fresh := startNode(t, s, second)
	eventually(t, func() bool { return fresh.policies.get("old.example") == "one" })
}

func TestAHundredThousandRecordsAreReadAtStart(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	a, run := newNode(t, s, key)
	const n = 100_000
	for i := range n {
		a.policies.set(fmt.Sprintf("d%d.example", i), "some policy")
	}
	run()
	eventually(t, func() bool { return a.Stats().Sent == n })
	begun := time.Now()
	b := startNode(t, s, key)
	eventually(t, func() bool { return b.policies.size() == n })
	t.Logf("%d records in %s", n, time.Since(begun).Round(time.Millisecond))
}

func TestPromisesAreMergedAndNeverRemoved(t *testing.T) {
	s, key := startServer(t), fleet.NewKey()
	stores := [2]*promises.Store{}
	for i := range stores {
		var f *fleet.Fleet
		stores[i] = promises.New(promises.Options{Seen: func(domain string) { f.Changed(fleet.Promise, domain) }})
		f, err := fleet.New(fleet.Options{URL: "unix://" + s.socket, Keys: []fleet.Key{key}, Pull: 20 * time.Millisecond, Locals: map[fleet.Kind]fleet.Local{fleet.Promise: stores[i]}})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	stores[0].Observe("example.com", promises.Answer{Kinds: []promises.Kind{promises.Prefix}})
	eventually(t, func() bool { _, ok := stores[1].Get("example.com"); return ok })
	stores[0].Forget("example.com")
	stores[0].Observe("other.example", promises.Answer{Kinds: []promises.Kind{promises.DANE}})
	eventually(t, func() bool { _, ok := stores[1].Get("other.example"); return ok })
	_, ok := stores[1].Get("example.com")
	require.True(t, ok)
}
