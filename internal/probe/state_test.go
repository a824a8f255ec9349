package probe

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/statedb"
)

func TestVerdictsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork()
		o := w.options()
		o.StateDir = dir
		w.host(mx, good, "8.8.8.8")
		w.host("smtps-b.example.com", plain, "8.8.4.4")
		w.host("smtps-c.example.com", unreachable, "8.8.4.5")
		p := w.prober(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { _ = p.Run(ctx) })
		for _, host := range []string{mx, "smtps-b.example.com", "smtps-c.example.com"} {
			ask(p, host)
		}
		pass(3 * time.Second)
		before := []Verdict{p.Verdict(mx), p.Verdict("smtps-b.example.com")}
		file := filepath.Join(dir, "probes.db")
		crash, err := os.ReadFile(file)
		require.NoError(t, err, "it is written while it runs")
		cancel()
		ended.Wait()

		again := func(t *testing.T) *Prober {
			p := w.prober(t, o)
			require.NoError(t, p.hosts.Close())
			return p
		}
		for _, crashed := range []bool{false, true} {
			if crashed {
				require.NoError(t, os.WriteFile(file, crash, 0o600))
			}
			p = again(t)
			for i, host := range []string{mx, "smtps-b.example.com"} {
				require.Equal(t, before[i], ask(p, host), "with its times")
			}
			require.Equal(t, 2, known(p), "what is unknown is not saved")
			require.EqualValues(t, 1, p.Stats().Hosts["open"])
			require.EqualValues(t, 1, p.Stats().Hosts["closed"])
		}
		pass(2 * time.Hour)
		require.Equal(t, Unknown, ask(again(t), mx).State, "a restart does not renew an old verdict")
		o.Port = 2626
		require.Zero(t, known(again(t)), "and one about another port does not count")
		require.NotContains(t, w.log.String(), "level=WARN")
	})
}

// saveHosts makes a state directory with some hosts in it.
func saveHosts(t *testing.T, hosts map[string]saved) string {
	t.Helper()
	dir := t.TempDir()
	disk := statedb.New(statedb.Options[saved]{
		Dir: dir, Name: "probes.db", Bucket: "probes-1", Log: slog.New(slog.DiscardHandler), Max: len(hosts),
		Encode: func(s saved) []byte {
			b, err := json.Marshal(s)
			require.NoError(t, err)
			return b
		},
	})
	for name, s := range hosts {
		disk.Put(name, s)
	}
	require.NoError(t, disk.Close())
	return dir
}

func TestSavedVerdictThatIsNotSoundIsNotUsed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	one := saved{Port: 26, Verdict: Verdict{State: Open, Checked: now.Add(-time.Minute), Expires: now.Add(time.Hour), Why: "fine"}, Asked: now.Add(-time.Minute)}
	closed := one
	closed.State, closed.Cause, closed.BackOff = Closed, smtptls.Refused, minClosedBackOff
	for name, c := range map[string]struct {
		host   string
		from   saved
		change func(*saved)
		want   State
	}{
		"open":                     {mx, one, func(*saved) {}, Open},
		"closed":                   {mx, closed, func(*saved) {}, Closed},
		"no smtps- host":           {"mx.example.com", one, func(*saved) {}, Unknown},
		"not a host name":          {"smtps-a b.example.com", one, func(*saved) {}, Unknown},
		"upper case":               {"SMTPS-A.example.com", one, func(*saved) {}, Unknown},
		"another state":            {mx, one, func(s *saved) { s.State = "ajar" }, Unknown},
		"unknown":                  {mx, one, func(s *saved) { s.State = "unknown" }, Unknown},
		"a cause in other letters": {mx, closed, func(s *saved) { s.Cause = "\x1b[31m" }, Unknown},
		"open with a cause":        {mx, one, func(s *saved) { s.Cause = "refused" }, Unknown},
		"closed without a cause":   {mx, closed, func(s *saved) { s.Cause = "" }, Unknown},
		"open indefinitely":        {mx, one, func(s *saved) { s.Expires = now.AddDate(1, 0, 0) }, Unknown},
		"closed indefinitely":      {mx, closed, func(s *saved) { s.Expires = now.AddDate(1, 0, 0) }, Unknown},
		"no back-off":              {mx, closed, func(s *saved) { s.BackOff = 0 }, Unknown},
		"a negative back-off":      {mx, one, func(s *saved) { s.BackOff = -1 }, Unknown},
		"a long back-off":          {mx, closed, func(s *saved) { s.BackOff = maxClosedBackOff + 1 }, Unknown},
		"words that are not ASCII": {mx, one, func(s *saved) { s.Why = "\x1b[31m" }, Unknown},
		"of the future":            {mx, one, func(s *saved) { s.Checked = now.Add(time.Minute) }, Unknown},
		"expired":                  {mx, one, func(s *saved) { s.Expires = now.Add(-time.Second) }, Unknown},
		"not wanted for a day":     {mx, one, func(s *saved) { s.Asked = now.AddDate(0, 0, -2) }, Unknown},
		"wanted in the future":     {mx, one, func(s *saved) { s.Asked = now.Add(time.Minute) }, Unknown},
		"another port":             {mx, one, func(s *saved) { s.Port = 2626 }, Unknown},
		"special addresses":        {mx, one, func(s *saved) { s.Special = true }, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNetwork()
			o := w.options()
			s := c.from
			c.change(&s)
			o.StateDir = saveHosts(t, map[string]saved{c.host: s})
			p := w.prober(t, o)
			require.NoError(t, p.hosts.Close())
			require.Equal(t, c.want != Unknown, known(p) == 1, "a record that is not used is not kept")
			require.Equal(t, c.want, p.Verdict(c.host).State)
		})
	}
}

// A forgotten host no longer waits for a probe and is not counted.
func TestForgottenHostLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	w.host(mx, refusing, "8.8.8.8")
	p.Probe(t.Context(), mx)
	p.Want(mxn(1))
	require.EqualValues(t, 1, p.Stats().Hosts["closed"])
	o := w.options()
	o.Port = 2626
	p.Configure(o)
	require.Zero(t, p.Stats().Hosts["closed"])
	h, _ := p.next(wallClock())
	require.Nil(t, h)
}

// The back-off of a closed host continues after a restart.
func TestBackOffSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	o := w.options()
	checked := wallClock().Add(-time.Minute)
	o.StateDir = saveHosts(t, map[string]saved{mx: {
		Port: 26, Verdict: Verdict{State: Closed, Cause: smtptls.Refused, Checked: checked, Expires: checked.Add(time.Hour)}, Asked: checked, BackOff: 40 * time.Minute,
	}})
	p := w.prober(t, o)
	p.Want(mx)
	require.True(t, p.hosts.Records[mx].wanted)
	require.Equal(t, 40*time.Minute, p.hosts.Records[mx].wait(checked))
	w.host(mx, refusing, "8.8.8.8")
	p.Probe(t.Context(), mx)
	require.Equal(t, 80*time.Minute, p.hosts.Records[mx].closedBackOff)
}

// A reload that makes all verdicts void removes them from the disk too.
func TestVoidVerdictsLeaveTheDisk(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	o := w.options()
	o.StateDir = t.TempDir()
	p := w.prober(t, o)
	w.host(mx, good, "8.8.8.8")
	p.Probe(t.Context(), mx)
	p.hosts.Sync()
	special := o
	special.Special = true
	p.Configure(special)
	require.NoError(t, p.hosts.Close())
	require.Zero(t, known(w.prober(t, o)))
}

// After a restart the host that was not wanted for longest is still the first to be forgotten.
func TestOrderOfHostsSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	o := w.options()
	now := wallClock()
	hosts := map[string]saved{}
	for i, minutes := range []time.Duration{3, 1, 4, 2} {
		hosts[mxn(i)] = saved{
			Port: 26, Verdict: Verdict{State: Open, Checked: now.Add(-time.Hour), Expires: now.Add(time.Hour)}, Asked: now.Add(-minutes * time.Minute),
		}
	}
	o.StateDir = saveHosts(t, hosts)
	p := w.prober(t, o)
	for name, s := range hosts {
		require.True(t, s.Asked.Equal(p.hosts.Records[name].asked))
	}
}

// Other versions of policyd read the file: its form may not change.
func TestTheFormOnDiskIsStable(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	p := w.prober(t, w.options())
	checked := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &host{asked: checked, closedBackOff: 10 * time.Minute, verdict: Verdict{
		State: Closed, Cause: smtptls.Refused, Checked: checked, Expires: checked.Add(closedLife), Why: "192.0.2.1: refused",
	}}
	require.JSONEq(t, `{"port":26,"state":"closed","cause":"refused","checked":"2026-01-02T03:04:05Z",`+
		`"expires":"2026-01-03T03:04:05Z","why":"192.0.2.1: refused","asked":"2026-01-02T03:04:05Z","back_off":600000000000}`, string(p.encode(h)))
	h = &host{asked: checked, verdict: Verdict{State: Open, Checked: checked, Expires: checked.Add(openLife), Why: "fine"}}
	require.JSONEq(t, `{"port":26,"state":"open","checked":"2026-01-02T03:04:05Z","expires":"2026-01-02T05:04:05Z",`+
		`"why":"fine","asked":"2026-01-02T03:04:05Z"}`, string(p.encode(h)))
}
