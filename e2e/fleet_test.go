//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

const nodeSettings = `server.listen = ["unix:DIR/sock"]
overrides = "DIR/overrides"
dns.servers = [%q]
dns.self_test = ["test."]
cache.state_dir = "DIR/state"
port26.mode = "off"
port26.probe_special_addresses = true
tls.ca_file = %q
admin.socket = "DIR/admin.sock"
log.lookups = "all"
[fleet]
url = %q
key_file = %q
pull = "1s"
`

// site creates the nodes of a fleet.
type site struct {
	lab *lab.Lab
	dir string
	url string // of the store
}

// key makes a site key and returns the path of its file.
func (s *site) key(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command(source+"/bin/policyd", "fleet", "key").Output()
	require.NoError(t, err)
	file := filepath.Join(s.dir, name)
	require.NoError(t, os.WriteFile(file, out, 0o600))
	return file
}

// start starts a node with a state directory of its own, and without a store if keyFile is "".
func (s *site) start(t *testing.T, name, keyFile string) *node {
	t.Helper()
	n := &node{dir: filepath.Join(s.dir, name)}
	require.NoError(t, os.MkdirAll(filepath.Join(n.dir, "state"), 0o700))
	url := s.url
	if keyFile == "" {
		url = ""
	}
	var err error
	n.Process, err = daemon.Policyd(t.Context(), n.dir, fmt.Sprintf(nodeSettings, s.lab.Upstream.Addr, s.lab.CAFile(), url, keyFile),
		daemon.Command{Path: source + "/bin/policyd", Address: "unix:DIR/sock"})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: %s", name, n.Log)
		}
		n.Kill()
	})
	return n
}

// redis starts a Redis server.
func redis(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("redis-server", args...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// redisOnSocket starts a Redis server on a unix socket.
func redisOnSocket(t *testing.T) (server *exec.Cmd, socket string) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "redis.sock")
	return redis(t, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir), socket
}

// cli sends a command with redis-cli and returns its output.
func cli(args ...string) string {
	out, _ := exec.Command("redis-cli", args...).Output() // a server that does not answer yet prints nothing
	return string(out)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, longest, 10*tick, what)
}

// policyOf makes a domain with an enforced MTA-STS policy.
func policyOf(l *lab.Lab, domain string) *lab.PolicyHost {
	r := l.Host(lab.Host{Name: "mx." + domain, On25: lab.STARTTLS})
	l.MX(domain, r.Name)
	return l.PolicyHost(domain, "1", lab.STS("enforce", r.Name))
}

func secureSTS(domain string) string { return "OK secure match=mx." + domain + " servername=hostname" }

// node is one policyd of a fleet.
type node struct {
	*daemon.Process
	dir string
}

// ask asks for the TLS policy of a domain.
func (n *node) ask(t *testing.T, domain string) string {
	t.Helper()
	reply, err := n.Ask(t.Context(), socketmap.Request{Map: "tls-policy", Key: domain})
	require.NoError(t, err)
	return reply.String()
}

// fleetStatus is the part of policyd status --json that is about the fleet.
type fleetStatus struct {
	Fleet struct {
		Up      bool              `json:"up"`
		Merged  int               `json:"merged"`
		Ignored map[string]uint64 `json:"ignored"`
	} `json:"fleet"`
}

// down reports whether the node has noticed that the store cannot be used.
func (s fleetStatus) down() bool { return s.Fleet.Ignored != nil && !s.Fleet.Up }

// status returns nothing while the node has no admin socket yet.
func (n *node) status(t *testing.T) (s fleetStatus) {
	t.Helper()
	out, exit, err := n.Run(t.Context(), "status", "--json")
	if err == nil && exit == 0 {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Log(err)
	}
	return s
}

// TestFleet runs three nodes of one site and one with another key, each with a state directory of its own, beside a real
// Redis server that is stopped and killed.
func TestFleet(t *testing.T) {
	l := newLab(t, lab.Options{})
	first, second := policyOf(l, "fleet.test"), policyOf(l, "late.test")
	promise := l.Host(lab.Host{Name: "starttls-mx.promise.test", On25: lab.STARTTLS})
	l.MX("promise.test", promise.Name)
	require.NoError(t, l.Start(t.Context()))

	store, socket := redisOnSocket(t)
	f := &site{lab: l, dir: t.TempDir(), url: "unix://" + socket}
	key, other := f.key(t, "site"), f.key(t, "other")

	a := f.start(t, "a", key)
	require.Equal(t, secureSTS("fleet.test"), a.ask(t, "fleet.test"))
	require.Contains(t, a.ask(t, "promise.test"), "OK secure match=starttls-mx.promise.test")
	eventually(t, "the store has the records", func() bool {
		return strings.Count(cli("-s", socket, "keys", "policyd:r:*"), "policyd:r:") == 3
	})
	first.Close() // no node can fetch this policy from now on

	b := f.start(t, "b", key)
	eventually(t, "b merges the records", func() bool { return b.status(t).Fleet.Merged >= 3 })
	require.Equal(t, secureSTS("fleet.test"), b.ask(t, "fleet.test"), "the first contact of a new node is protected")
	otherSite := f.start(t, "c", other)
	eventually(t, "records of another key are counted", func() bool { return otherSite.status(t).Fleet.Ignored["mac"] >= 3 })
	require.Equal(t, "NOTFOUND", strings.TrimSpace(otherSite.ask(t, "fleet.test")))

	require.NoError(t, store.Process.Signal(syscall.SIGSTOP))
	eventually(t, "a hung store is noticed", func() bool { return a.status(t).down() && b.status(t).down() })
	require.Equal(t, secureSTS("late.test"), a.ask(t, "late.test"), "no lookup depends on the store")
	require.NoError(t, store.Process.Signal(syscall.SIGCONT))
	second.Close()
	eventually(t, "what was learned during the failure arrives", func() bool { return b.ask(t, "late.test") == secureSTS("late.test") })

	require.NoError(t, store.Process.Kill())
	eventually(t, "a dead store is noticed", func() bool { return a.status(t).down() })
	require.Equal(t, secureSTS("fleet.test"), a.ask(t, "fleet.test"))
	b.Kill()
	again := f.start(t, "b", key)
	require.Equal(t, secureSTS("fleet.test"), again.ask(t, "fleet.test"), "the record was kept in the node's own state directory")
}

// TestFleetFailover kills the primary under three nodes. Redis Sentinel then makes the replica the primary.
func TestFleetFailover(t *testing.T) {
	l := newLab(t, lab.Options{})
	first, second := policyOf(l, "fleet.test"), policyOf(l, "late.test")
	require.NoError(t, l.Start(t.Context()))

	const primaryPort, replicaPort, sentinelPort = "6379", "6380", "26379"
	dir := t.TempDir()
	server := func(port string, args ...string) *exec.Cmd {
		data := filepath.Join(dir, port)
		require.NoError(t, os.Mkdir(data, 0o700))
		return redis(t, append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", data}, args...)...)
	}
	primary := server(primaryPort)
	server(replicaPort, "--replicaof", "127.0.0.1 "+primaryPort)
	conf := filepath.Join(dir, "sentinel.conf") // Sentinel writes to it
	require.NoError(t, os.WriteFile(conf, []byte("bind 127.0.0.1\nport "+sentinelPort+"\ndir "+dir+"\nsentinel monitor site 127.0.0.1 "+primaryPort+
		" 1\nsentinel down-after-milliseconds site 1000\nsentinel failover-timeout site 10000\n"), 0o600))
	redis(t, conf, "--sentinel")
	eventually(t, "Sentinel knows the replica", func() bool {
		return strings.Contains(cli("-p", sentinelPort, "sentinel", "replicas", "site"), replicaPort) &&
			strings.Contains(cli("-p", replicaPort, "info", "replication"), "master_link_status:up")
	})

	f := &site{lab: l, dir: t.TempDir(), url: "redis://127.0.0.1:" + sentinelPort + "?master_name=site"}
	key := f.key(t, "site")
	a, b, c := f.start(t, "a", key), f.start(t, "b", key), f.start(t, "c", key)
	require.Equal(t, secureSTS("fleet.test"), a.ask(t, "fleet.test"))
	eventually(t, "the replica has the records", func() bool {
		return strings.Count(cli("-p", replicaPort, "keys", "policyd:r:*"), "policyd:r:") == 2
	})
	first.Close() // no node can fetch this policy from now on
	for _, n := range []*node{b, c} {
		eventually(t, "a peer's record arrives", func() bool { return n.ask(t, "fleet.test") == secureSTS("fleet.test") })
	}

	require.NoError(t, primary.Process.Kill())
	require.Equal(t, secureSTS("late.test"), a.ask(t, "late.test"), "no lookup depends on the store")
	second.Close()
	eventually(t, "the replica becomes the primary", func() bool { return strings.HasPrefix(cli("-p", replicaPort, "role"), "master") })
	for _, n := range []*node{b, c} {
		eventually(t, "what was learned during the failure arrives", func() bool { return n.ask(t, "late.test") == secureSTS("late.test") })
		require.Equal(t, secureSTS("fleet.test"), n.ask(t, "fleet.test"))
	}
	eventually(t, "every node uses the new primary", func() bool { return a.status(t).Fleet.Up && b.status(t).Fleet.Up && c.status(t).Fleet.Up })
}
