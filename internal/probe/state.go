package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/regfile"
	"github.com/policyd/policyd/internal/smtptls"
)

// The state file. It is a cache: one that is torn or foreign is worth a warning and nothing more.
const (
	stateFile    = "probes.json"
	stateFormat  = "policyd probe verdicts, version 1"
	maxStateSize = 16 << 20
	saveDelay    = time.Second
	saveInterval = 5 * time.Second
	savePerHost  = 2 * time.Millisecond // more than that between two: the file is written as a whole
)

// saved is the state file.
type saved struct {
	Format string `json:"format"`
	// Port and Special are those of the Options: the verdicts are worth nothing under others.
	Port    uint16      `json:"port"`
	Special bool        `json:"special"`
	Hosts   []savedHost `json:"hosts"`
}

type savedHost struct {
	Host    string        `json:"host"`
	State   string        `json:"state"`
	Cause   string        `json:"cause,omitempty"`
	Checked time.Time     `json:"checked"`
	Expires time.Time     `json:"expires"`
	Asked   time.Time     `json:"asked"`
	BackOff time.Duration `json:"back_off,omitempty"`
	Why     string        `json:"why"`
}

// saveNowAndThen saves what has changed, until ctx ends.
func (p *Prober) saveNowAndThen(ctx context.Context) {
	timer := time.NewTimer(saveDelay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.dirty:
		}
		timer.Reset(saveDelay)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		p.save()
		timer.Reset(saveInterval + time.Duration(p.Stats().Hosts)*savePerHost)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if p.unsaved.Load() { // once more
			signal(p.dirty)
		}
	}
}

// save writes the state file: whole, or not at all. A failure is logged when it begins.
func (p *Prober) save() {
	p.mu.Lock()
	o := p.options
	state := saved{Format: stateFormat, Port: o.Port, Special: o.Special, Hosts: make([]savedHost, 0, len(p.hosts))}
	for _, h := range p.hosts {
		if v := h.verdict; v.State != Unknown {
			state.Hosts = append(state.Hosts, savedHost{
				Host: h.name, State: v.State.String(), Cause: string(v.Cause), Checked: v.Checked, Expires: v.Expires,
				Asked: h.asked, BackOff: h.closedFor, Why: v.Why,
			})
		}
	}
	p.mu.Unlock()
	if o.StateDir == "" {
		return
	}
	err := state.write(o.StateDir)
	if err != nil && !p.unsaved.Swap(true) {
		o.Logger.Warn("the verdicts about port 26 cannot be saved: after a restart the hosts are probed again", "dir", o.StateDir, "err", err)
	}
	if err == nil {
		p.unsaved.Store(false)
	}
}

// write replaces the file in dir: the new one is on the disk before it takes the name, so that a crash leaves the old
// one or the new one.
func (s saved) write(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, "."+stateFile+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if err := json.NewEncoder(file).Encode(s); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), filepath.Join(dir, stateFile)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads the state file, if there is a sound one.
func (p *Prober) load() {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.options
	if o.StateDir == "" {
		return
	}
	removeLeftovers(o.StateDir)
	state, err := readState(filepath.Join(o.StateDir, stateFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return
	}
	if err == nil {
		err = state.check()
	}
	if err != nil {
		o.Logger.Warn("the saved verdicts about port 26 are not used: the hosts are probed again", "file", filepath.Join(o.StateDir, stateFile), "err", err)
		return
	}
	if state.Port != o.Port || state.Special != o.Special {
		return
	}
	now := wallClock()
	// The one asked for last comes last, and so to the front.
	slices.SortStableFunc(state.Hosts, func(a, b savedHost) int { return a.Asked.Compare(b.Asked) })
	for _, s := range state.Hosts {
		v := s.verdict()
		if now.Before(v.Checked) || !now.Before(v.Expires) || now.Sub(s.Asked) >= forgottenAge || now.Before(s.Asked) {
			continue
		}
		h := p.add(s.Host, s.Asked)
		h.verdict = v
		if v.State == Open {
			p.known[others].Remove(h.place)
			h.early = rate.NewLimiter(rate.Every(usedEvery), earlyMost)
			h.place = p.known[opened].PushFront(h)
			continue
		}
		h.closedFor = s.BackOff
		h.retry = v.Checked.Add(s.BackOff)
	}
}

// removeLeftovers removes what a crash has left of a file being written.
func removeLeftovers(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "."+stateFile+"-*")) // the pattern is sound
	for _, name := range names {
		_ = os.Remove(name) // it does no harm where it stays
	}
}

func readState(path string) (saved, error) {
	content, err := regfile.Read(path)
	if err != nil {
		return saved{}, err
	}
	if len(content) > maxStateSize {
		return saved{}, fmt.Errorf("it has more than %d bytes", maxStateSize)
	}
	var state saved
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&state); err != nil {
		return saved{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return saved{}, errors.New("there is something after its end")
	}
	return state, nil
}

// check reports whether a file is one that save has written. One bad host makes the whole of it foreign.
func (s saved) check() error {
	if s.Format != stateFormat {
		return fmt.Errorf("it is not in the format %q", stateFormat)
	}
	if len(s.Hosts) > maxHosts {
		return fmt.Errorf("over %d hosts", maxHosts)
	}
	seen := map[string]bool{}
	for _, h := range s.Hosts {
		name, ok := hostName(h.Host)
		v := h.verdict()
		longest := closedFor
		if v.State == Open {
			longest = openFor
		}
		switch {
		case !ok, name != h.Host, seen[name]:
			return fmt.Errorf("%q is not an smtps- host, or is listed twice", smtptls.Tidy(h.Host))
		case v.State == Unknown, (v.State == Closed) != (v.Cause != smtptls.CauseNone), smtptls.Tidy(v.Why) != v.Why:
			return fmt.Errorf("%s has no verdict", name)
		case v.Checked.IsZero(), v.Expires.Sub(v.Checked) > longest:
			return fmt.Errorf("the verdict about %s lasts too long", name)
		case h.BackOff < 0, h.BackOff > closedLast, v.State == Closed && h.BackOff < closedFirst:
			return fmt.Errorf("the back-off of %s is out of bounds", name)
		}
		seen[name] = true
	}
	return nil
}

// verdict is the verdict that was saved; Unknown where that makes no sense.
func (h savedHost) verdict() Verdict {
	v := Verdict{Checked: h.Checked.Round(0), Expires: h.Expires.Round(0), Why: h.Why}
	for _, s := range []State{Closed, Open} {
		if s.String() == h.State {
			v.State = s
		}
	}
	if h.Cause == "" || slices.Contains(smtptls.Causes(), smtptls.Cause(h.Cause)) {
		v.Cause = smtptls.Cause(h.Cause)
		return v
	}
	return Verdict{}
}
