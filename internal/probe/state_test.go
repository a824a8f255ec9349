package probe

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestVerdictsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
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
		before := p.List()
		crash, err := os.ReadFile(filepath.Join(dir, stateFile))
		require.NoError(t, err, "it is written while it runs")
		cancel()
		ended.Wait()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "."+stateFile+"-123"), crash[:10], 0o600))

		again := func(crashed bool) *Prober {
			if crashed {
				require.NoError(t, os.WriteFile(filepath.Join(dir, stateFile), crash, 0o600))
			}
			return w.prober(t, o)
		}
		for _, crashed := range []bool{false, true} {
			p = again(crashed)
			for i, host := range []string{mx, "smtps-b.example.com"} {
				v := ask(p, host)
				require.Equal(t, before[i].Verdict, v, "with its times")
			}
			require.Len(t, p.List(), 2, "what is unknown is not saved")
			require.Equal(t, 1, p.Stats().Open)
			require.Equal(t, 1, p.Stats().Closed)
		}
		names, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, names, 1, "what a crash left behind is removed")

		pass(2 * time.Hour)
		require.Equal(t, Unknown, ask(again(false), mx).State, "an old verdict is not young again after a restart")
		o.Port = 2626
		require.Empty(t, again(false).List(), "and one about another port is none")
		o.Port, o.Special = 26, true
		require.Empty(t, again(false).List())
		require.NotContains(t, w.log.String(), "level=WARN")
	})
}

func TestStateFileThatIsNotOursIsNotBelieved(t *testing.T) {
	t.Parallel()
	now := time.Now()
	one := savedHost{Host: mx, State: "open", Checked: now.Add(-time.Minute), Expires: now.Add(time.Hour), Asked: now.Add(-time.Minute), Why: "fine"}
	file := func(change func(*saved)) string {
		s := saved{Format: stateFormat, Port: 26, Hosts: []savedHost{one}}
		change(&s)
		text, err := json.Marshal(s)
		require.NoError(t, err)
		return string(text)
	}
	host := func(change func(*savedHost)) string {
		return file(func(s *saved) { change(&s.Hosts[0]) })
	}
	sound := file(func(*saved) {})
	for name, c := range map[string]struct {
		text  string
		hosts int
		warns bool
	}{
		"sound":                    {sound, 1, false},
		"torn":                     {sound[:len(sound)/2], 0, true},
		"empty":                    {"", 0, true},
		"garbage":                  {"\x00\x01\x02", 0, true},
		"two of them":              {sound + sound, 0, true},
		"unknown field":            {strings.Replace(sound, `"port"`, `"harbour":1,"port"`, 1), 0, true},
		"another format":           {file(func(s *saved) { s.Format = "policyd probe verdicts, version 2" }), 0, true},
		"no smtps- host":           {host(func(h *savedHost) { h.Host = "mx.example.com" }), 0, true},
		"not a host name":          {host(func(h *savedHost) { h.Host = "smtps-a b.example.com" }), 0, true},
		"upper case":               {host(func(h *savedHost) { h.Host = "SMTPS-A.example.com" }), 0, true},
		"the same host twice":      {file(func(s *saved) { s.Hosts = append(s.Hosts, one) }), 0, true},
		"another state":            {host(func(h *savedHost) { h.State = "ajar" }), 0, true},
		"unknown":                  {host(func(h *savedHost) { h.State = "unknown" }), 0, true},
		"another cause":            {host(func(h *savedHost) { h.State, h.Cause = "closed", "moody" }), 0, true},
		"open with a cause":        {host(func(h *savedHost) { h.Cause = "refused" }), 0, true},
		"closed without a cause":   {host(func(h *savedHost) { h.State = "closed" }), 0, true},
		"open indefinitely":        {host(func(h *savedHost) { h.Expires = now.AddDate(1, 0, 0) }), 0, true},
		"closed indefinitely":      {host(func(h *savedHost) { h.State, h.Cause, h.Expires = "closed", "refused", now.AddDate(1, 0, 0) }), 0, true},
		"no back-off":              {host(func(h *savedHost) { h.State, h.Cause = "closed", "refused" }), 0, true},
		"a negative back-off":      {host(func(h *savedHost) { h.BackOff = -1 }), 0, true},
		"words that are not ASCII": {host(func(h *savedHost) { h.Why = "\x1b[31m" }), 0, true},
		"of the future":            {host(func(h *savedHost) { h.Checked = now.Add(time.Minute) }), 0, false},
		"expired":                  {host(func(h *savedHost) { h.Expires = now.Add(-time.Second) }), 0, false},
		"not wanted for a day":     {host(func(h *savedHost) { h.Asked = now.AddDate(0, 0, -2) }), 0, false},
		"wanted in the future":     {host(func(h *savedHost) { h.Asked = now.Add(time.Minute) }), 0, false},
		"too large":                {sound + strings.Repeat(" ", 16<<20), 0, true},
		"too many hosts": {file(func(s *saved) {
			for i := range maxHosts {
				another := one
				another.Host = mxn(i)
				s.Hosts = append(s.Hosts, another)
			}
		}), 0, true},
		"another port": {file(func(s *saved) { s.Port = 2626 }), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			o := w.options()
			o.StateDir = t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(o.StateDir, stateFile), []byte(c.text), 0o600))
			p := w.prober(t, o)
			require.Len(t, p.List(), c.hosts)
			want := Unknown
			if c.hosts > 0 {
				want = Open
			}
			require.Equal(t, want, ask(p, mx).State)
			if c.warns {
				require.Equal(t, 1, w.log.Count("level=WARN"))
			} else {
				require.NotContains(t, w.log.String(), "WARN")
			}
		})
	}
	t.Run("not a file", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		o := w.options()
		o.StateDir = t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(o.StateDir, stateFile), 0o700))
		require.Empty(t, w.prober(t, o).List())
		require.Equal(t, 1, w.log.Count("level=WARN"))
	})
}

func TestStateThatCannotBeSavedIsOneWarning(t *testing.T) {
	t.Parallel()
	w := newWorld()
	o := w.options()
	o.StateDir = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(o.StateDir, nil, 0o600))
	p := w.prober(t, o)
	w.host(mx, good, "8.8.8.8")
	require.Equal(t, Open, p.Probe(t.Context(), mx).State)
	p.save()
	p.save()
	require.Equal(t, 1, w.log.Count("cannot be saved"))
	require.NoError(t, os.Remove(o.StateDir))
	p.save()
	require.NoError(t, os.RemoveAll(o.StateDir))
	require.NoError(t, os.WriteFile(o.StateDir, nil, 0o600))
	p.save()
	require.Equal(t, 2, w.log.Count("cannot be saved"), "and another when it fails again")
	require.Equal(t, Open, ask(p, mx).State)
}

// A disk that could not be written at the start is tried again without a change. It is read all the same, and the
// store has logged the warning.
func TestStateIsSavedWhenItCanBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		o := w.options()
		o.StateDir = filepath.Join(dir, "file", "state")
		o.Unwritable = true
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		p := w.prober(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		w.host(mx, good, "8.8.8.8")
		require.Equal(t, Open, p.Probe(t.Context(), mx).State)
		time.Sleep(time.Minute)
		require.NotContains(t, w.log.String(), "level=WARN")
		require.NoError(t, os.Remove(filepath.Join(dir, "file")))
		time.Sleep(10 * time.Second)
		require.FileExists(t, filepath.Join(o.StateDir, stateFile))
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "file")))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		p.save()
		require.Equal(t, 1, w.log.Count("level=WARN"), "it fails again")
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// A forgotten host no longer waits for a probe and is not counted.
func TestForgottenHostLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	p := w.prober(t, w.options())
	w.host(mx, refusing, "8.8.8.8")
	p.Probe(t.Context(), mx)
	p.Want(mxn(1))
	p.sweep(wallClock())
	require.Equal(t, 1, p.Stats().Closed)
	require.Equal(t, 1, p.Stats().Queue)
	o := w.options()
	o.Port = 2626
	require.NoError(t, p.Configure(o))
	require.Zero(t, p.Stats().Closed)
	require.Zero(t, p.Stats().Queue)
	require.Nil(t, p.take())
}

// A reload does not move the state file.
func TestReloadKeepsTheStateDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld()
	o := w.options()
	o.StateDir = t.TempDir()
	p := w.prober(t, o)
	first := o.StateDir
	o.StateDir = t.TempDir()
	require.NoError(t, p.Configure(o))
	p.save()
	require.FileExists(t, filepath.Join(first, stateFile))
	require.NoFileExists(t, filepath.Join(o.StateDir, stateFile))
}

// The back-off of a closed host continues after a restart.
func TestBackOffSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	o := w.options()
	o.StateDir = t.TempDir()
	checked := wallClock().Add(-time.Minute)
	state := saved{Format: stateFormat, Port: 26, Hosts: []savedHost{{
		Host: mx, State: "closed", Cause: "refused", Checked: checked, Expires: checked.Add(time.Hour), Asked: checked,
		BackOff: 40 * time.Minute,
	}}}
	require.NoError(t, state.write(o.StateDir))
	p := w.prober(t, o)
	p.Want(mx)
	require.Equal(t, checked.Add(40*time.Minute), p.hosts[mx].due)
	w.host(mx, refusing, "8.8.8.8")
	p.Probe(t.Context(), mx)
	require.Equal(t, 80*time.Minute, p.hosts[mx].closedFor)
}

// With many hosts the file is written less often, but a verdict is on the disk within seconds.
func TestVerdictsOfManyHostsAreSavedSoon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, func(t *testing.T, w *world, _ *Prober) {
		o := w.options()
		o.StateDir = dir
		p := w.prober(t, o)
		for i := range 1000 {
			p.add(mxn(i), wallClock())
		}
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { p.saveNowAndThen(ctx) })
		for i, passed := range []time.Duration{2 * time.Second, 9 * time.Second} {
			w.host(mxn(i), good, "8.8.8.8")
			p.Probe(t.Context(), mxn(i))
			pass(passed)
			text, err := os.ReadFile(filepath.Join(dir, stateFile))
			require.NoError(t, err)
			require.Contains(t, string(text), mxn(i))
		}
		cancel()
		ended.Wait()
	})
}

// After a restart the host that was not wanted for longest is still the first to be forgotten.
func TestOrderOfHostsSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	o := w.options()
	o.StateDir = t.TempDir()
	now := wallClock()
	state := saved{Format: stateFormat, Port: 26}
	for i, minutes := range []time.Duration{3, 1, 4, 2} {
		state.Hosts = append(state.Hosts, savedHost{
			Host: mxn(i), State: "open", Checked: now.Add(-time.Hour), Expires: now.Add(time.Hour), Asked: now.Add(-minutes * time.Minute),
		})
	}
	require.NoError(t, state.write(o.StateDir))
	p := w.prober(t, o)
	var order []string
	for e := p.known[opened].Front(); e != nil; e = e.Next() {
		h, ok := e.Value.(*host)
		require.True(t, ok)
		order = append(order, h.name)
	}
	require.Equal(t, []string{mxn(1), mxn(3), mxn(0), mxn(2)}, order)
}
