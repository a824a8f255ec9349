//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// resolvers is where e2e/fetch has unpacked them.
const resolvers = source + "/bin/resolvers/root"

// TestEveryResolverGivesTheSameAnswers asks the same questions of policyd behind each resolver.
func TestEveryResolverGivesTheSameAnswers(t *testing.T) {
	l := newLab(t, lab.Options{})
	keys := cases.Keys(l)
	require.NoError(t, l.Prepare())
	authority, servers, err := l.Servers(resolvers)
	require.NoError(t, err)
	require.NoError(t, authority.Start(t.Context()))
	t.Cleanup(authority.Kill)

	m := matrix{t: t, lab: l, keys: keys, cells: map[string][]string{}}
	for _, s := range servers {
		m.run(s)
	}
	m.print(servers)
	require.Empty(t, strings.Join(m.wrong, "\n"), "an answer differs")
}

// matrix is the table: for each resolver and key, the answer in each round.
type matrix struct {
	t     *testing.T
	lab   *lab.Lab
	keys  []cases.Key
	cells map[string][]string // by resolver: a letter per round, for each key
	wrong []string
}

// run asks one resolver in four situations.
func (m *matrix) run(s *lab.Server) {
	ctx := m.t.Context()
	m.cells[s.Name] = make([]string, len(m.keys))
	m.start(s)
	p := m.policyd(s, "cold")
	m.round(s, p, "cold")
	m.end(p)
	p = m.policyd(s, "warm")
	m.round(s, p, "warm")
	m.end(p)

	// Another program asks for everything twice, without EDNS, DO and AD.
	_ = s.Stop()
	m.start(s)
	for range 2 {
		m.askPlainly(ctx, s)
	}
	p = m.policyd(s, "after another program")
	m.round(s, p, "after another program")

	// The resolver restarts under a policyd that runs.
	_ = s.Stop()
	m.start(s)
	out, status, err := p.Run(ctx, "cache", "flush", "--all")
	require.NoError(m.t, err)
	require.Zero(m.t, status, "%s", out)
	trusted(m.t, p)
	m.round(s, p, "after a restart")
	m.end(p)
	_ = s.Stop()
	if s.Behind != nil {
		_ = s.Behind.Stop()
	}
}

// start starts a resolver, and the one behind it, with empty caches.
func (m *matrix) start(s *lab.Server) {
	if s.Behind != nil {
		_ = s.Behind.Stop()
		require.NoError(m.t, s.Behind.Start(m.t.Context()))
	}
	require.NoError(m.t, s.Start(m.t.Context()), s.Name)
}

const matrixSettings = `[dns]
servers = [%q]
self_test = ["test."]
[cache]
state_dir = "DIR/state"
[port26]
mode = "always"
wait = "10s"
probe_special_addresses = true
[tls]
ca_file = %q
[server]
listen = ["unix:DIR/sock"]
[admin]
socket = "DIR/admin"
`

func (m *matrix) policyd(s *lab.Server, round string) *daemon.Process {
	return policydBehind(m.t, m.lab, s.Addr, strings.ReplaceAll(s.Name+"-"+round, " ", "-"))
}

// policydBehind starts a policyd with an empty cache behind a resolver and waits until it trusts it.
func policydBehind(t *testing.T, l *lab.Lab, resolver netip.AddrPort, directory string) *daemon.Process {
	t.Helper()
	dir := filepath.Join(l.Dir, directory)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "state"), 0o700))
	p, err := daemon.Policyd(t.Context(), dir, fmt.Sprintf(matrixSettings, resolver, l.CAFile()),
		daemon.Command{Path: source + "/bin/policyd", Address: "unix:DIR/sock"})
	require.NoError(t, err)
	trusted(t, p)
	return p
}

func (m *matrix) end(p *daemon.Process) { require.NoError(m.t, p.Stop()) }

// round asks every question twice, so that policyd also answers from its own cache.
func (m *matrix) round(s *lab.Server, p *daemon.Process, round string) {
	for range 2 {
		answers := make([]socketmap.Reply, len(m.keys))
		group, ctx := errgroup.WithContext(m.t.Context())
		group.SetLimit(4)
		for i, k := range m.keys {
			group.Go(func() (err error) {
				answers[i], err = p.Ask(ctx, k.Request)
				return err
			})
		}
		require.NoError(m.t, group.Wait())
		for i, k := range m.keys {
			got := answer(answers[i])
			if got != k.Answer {
				m.wrong = append(m.wrong, fmt.Sprintf("%s, %s: %s %s is %q, not %q", s.Name, round, k.Map, k.Key,
					answers[i], k.Answer))
			}
			m.cells[s.Name][i] += letter(got)
		}
	}
}

// askPlainly asks a resolver for all records that exist or might exist.
func (m *matrix) askPlainly(ctx context.Context, s *lab.Server) {
	var group errgroup.Group
	group.SetLimit(8)
	for _, name := range m.lab.Names() {
		for _, kind := range []string{"MX", "A", "AAAA", "TXT", "TLSA"} {
			group.Go(func() error {
				return lab.Ask(ctx, s.Addr, lab.DNSQuestion{Type: kind, Name: name})
			})
		}
	}
	require.NoError(m.t, group.Wait(), s.Name)
}

// print prints the table.
func (m *matrix) print(servers []*lab.Server) {
	var b strings.Builder
	fmt.Fprintf(&b, "Each cell: cold, warm, after another program, after a restart of the resolver; twice each.\n"+
		"D dane-only, d dane, S secure, R route, - NOTFOUND, T TEMP, ? anything else\n\n%-34s", "key")
	for _, s := range servers {
		fmt.Fprintf(&b, " %-13s", s.Name)
	}
	b.WriteByte('\n')
	for i, k := range m.keys {
		fmt.Fprintf(&b, "%-34s", k.Key)
		for _, s := range servers {
			fmt.Fprintf(&b, " %-13s", m.cells[s.Name][i])
		}
		b.WriteByte('\n')
	}
	fmt.Print(b.String())
}

// answer returns a reply in the notation of the table of keys, which has no reasons.
func answer(r socketmap.Reply) string {
	switch r.Status {
	case socketmap.StatusOK:
		return r.Text
	case socketmap.StatusNotFound:
		return "NOTFOUND"
	case socketmap.StatusTemp:
		return "TEMP"
	case socketmap.StatusTimeout, socketmap.StatusPerm:
	}
	return r.String()
}

func letter(answer string) string {
	word, _, _ := strings.Cut(answer, " ")
	switch {
	case word == "dane-only":
		return "D"
	case word == "dane":
		return "d"
	case word == "secure":
		return "S"
	case word == "NOTFOUND":
		return "-"
	case word == "TEMP":
		return "T"
	case strings.HasPrefix(word, "smtps26:"):
		return "R"
	}
	return "?"
}

// trusted waits until policyd has tested its resolver: until then every answer is TEMP.
func trusted(t *testing.T, p *daemon.Process) {
	t.Helper()
	require.Eventually(t, func() bool {
		r, err := p.Ask(t.Context(), socketmap.Request{Map: "tls-policy", Key: "no-such-name.test"})
		return err == nil && r.Status == socketmap.StatusNotFound
	}, longest, tick, "policyd trusts no resolver:\n%s", p.Log)
}
