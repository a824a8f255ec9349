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
url = "unix://%s"
key_file = %q
pull = "1s"
`

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
	policy := func(domain string) *lab.PolicyHost {
		r := l.Host(lab.Host{Name: "mx." + domain, On25: lab.STARTTLS})
		l.MX(domain, r.Name)
		return l.PolicyHost(domain, "1", lab.STS("enforce", r.Name))
	}
	first, second := policy("fleet.test"), policy("late.test")
	promise := l.Host(lab.Host{Name: "starttls-mx.promise.test", On25: lab.STARTTLS})
	l.MX("promise.test", promise.Name)
	require.NoError(t, l.Start(t.Context()))

	dir := t.TempDir()
	socket := filepath.Join(dir, "redis.sock")
	redis := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	require.NoError(t, redis.Start())
	t.Cleanup(func() {
		_ = redis.Process.Signal(syscall.SIGCONT)
		_ = redis.Process.Kill()
		_ = redis.Wait()
	})
	key := func(name string) string {
		out, err := exec.Command(source+"/bin/policyd", "fleet", "key").Output()
		require.NoError(t, err)
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, out, 0o600))
		return file
	}
	site, other := key("site"), key("other")
	start := func(name, keyFile string) *node {
		n := &node{dir: filepath.Join(dir, name)}
		require.NoError(t, os.MkdirAll(filepath.Join(n.dir, "state"), 0o700))
		var err error
		n.Process, err = daemon.Policyd(t.Context(), n.dir, fmt.Sprintf(nodeSettings, l.Upstream.Addr, l.CAFile(), socket, keyFile),
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
	eventually := func(what string, f func() bool) { t.Helper(); require.Eventually(t, f, longest, 10*tick, what) }
	secure := func(domain string) string { return "OK secure match=mx." + domain + " servername=hostname" }

	down := func(n *node) bool { s := n.status(t); return s.Fleet.Ignored != nil && !s.Fleet.Up }

	a := start("a", site)
	require.Equal(t, secure("fleet.test"), a.ask(t, "fleet.test"))
	require.Contains(t, a.ask(t, "promise.test"), "OK secure match=starttls-mx.promise.test")
	eventually("the store has the records", func() bool {
		out, err := exec.Command("redis-cli", "-s", socket, "keys", "policyd:r:*").Output()
		return err == nil && strings.Count(string(out), "policyd:r:") == 3
	})
	first.Close() // no node can fetch this policy from now on

	b := start("b", site)
	eventually("b merges the records", func() bool { return b.status(t).Fleet.Merged >= 3 })
	require.Equal(t, secure("fleet.test"), b.ask(t, "fleet.test"), "the first contact of a new node is protected")
	stranger := start("stranger", other)
	eventually("records of another key are counted", func() bool { return stranger.status(t).Fleet.Ignored["mac"] >= 3 })
	require.Equal(t, "NOTFOUND", strings.TrimSpace(stranger.ask(t, "fleet.test")))

	require.NoError(t, redis.Process.Signal(syscall.SIGSTOP))
	eventually("a hung store is noticed", func() bool { return down(a) && down(b) })
	require.Equal(t, secure("late.test"), a.ask(t, "late.test"), "no lookup depends on the store")
	require.NoError(t, redis.Process.Signal(syscall.SIGCONT))
	second.Close()
	eventually("records from the time of the hang arrive", func() bool { return b.ask(t, "late.test") == secure("late.test") })

	require.NoError(t, redis.Process.Kill())
	_ = redis.Wait()
	eventually("a dead store is noticed", func() bool { return down(a) })
	require.Equal(t, secure("fleet.test"), a.ask(t, "fleet.test"))
	b.Kill()
	again := start("b", site)
	require.Equal(t, secure("fleet.test"), again.ask(t, "fleet.test"), "the record was kept in the node's own state directory")
}
