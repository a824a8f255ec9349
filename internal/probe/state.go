package probe

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/statedb"
)

// diskInterval is how often verdicts are written, and how often the database is looked at in case it can be opened
// again.
const diskInterval = 2 * time.Second

// saved is the form of a host on disk, under its name.
type saved struct {
	// Port and Special are those of the Options: the verdict is worth nothing under others.
	Port    uint16        `json:"port"`
	Special bool          `json:"special,omitempty"`
	State   string        `json:"state"`
	Cause   smtptls.Cause `json:"cause,omitempty"`
	Checked time.Time     `json:"checked"`
	Expires time.Time     `json:"expires"`
	Asked   time.Time     `json:"asked"`
	BackOff time.Duration `json:"back_off,omitempty"`
	Why     string        `json:"why"`
}

// openDisk opens the database and takes over what it has.
func (p *Prober) openDisk() {
	p.disk = statedb.New(statedb.Options{
		Dir: p.options.StateDir, Name: "probes.db", Bucket: "probes-1", Log: p.options.Logger,
		Names: p.names, Encode: p.encoded, Load: p.load,
	})
	p.disk.Open()
	p.mu.Lock()
	defer p.mu.Unlock()
	// The database is sorted by name, and the one wanted last belongs to the front.
	for _, h := range slices.SortedFunc(maps.Values(p.hosts), func(a,
		b *host) int {
		return a.asked.Compare(b.asked)
	}) {
		p.known[h.kind()].MoveToFront(h.place)
	}
}

// syncDisk writes what has changed until ctx ends.
func (p *Prober) syncDisk(ctx context.Context) {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.disk.Sync()
		}
	}
}

func (p *Prober) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.hosts))
}

// encoded returns a host in the form in which it is on disk, nil if there is no verdict about it.
func (p *Prober) encoded(name string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[name]
	if h == nil || h.verdict.State == Unknown {
		return nil
	}
	v := h.verdict
	b, _ := json.Marshal(saved{ // numbers, strings and times do not fail
		Port: p.options.Port, Special: p.options.Special, State: v.State.String(), Cause: v.Cause,
		Checked: v.Checked, Expires: v.Expires, Asked: h.asked, BackOff: h.closedFor, Why: v.Why,
	})
	return b
}

// load takes over a host from the disk, unless it is known by now.
func (p *Prober) load(name string, value []byte) bool {
	var s saved
	if json.Unmarshal(value, &s) != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := s.verdict(wallClock())
	host, valid := hostName(name)
	if !ok || !valid || host != name || s.Port != p.options.Port || s.Special != p.options.Special ||
		p.hosts[name] != nil || len(p.hosts) >= maxHosts {
		return false
	}
	h := p.add(name, s.Asked)
	h.verdict = v
	if v.State == Closed {
		h.closedFor, h.retry = s.BackOff, v.Checked.Add(s.BackOff)
		return true
	}
	h.early = rate.NewLimiter(rate.Every(usedEvery), earlyMost)
	p.known[others].Remove(h.place)
	h.place = p.known[opened].PushFront(h)
	return true
}

// verdict returns the verdict that was saved. It trusts the disk no more than a host, and returns false for a verdict
// that encoded has not written or that is no longer valid.
func (s saved) verdict(now time.Time) (Verdict, bool) {
	v := Verdict{Cause: s.Cause, Checked: s.Checked.Round(0), Expires: s.Expires.Round(0), Why: s.Why}
	sound := smtptls.Tidy(s.Why) == s.Why
	longest := openFor
	switch s.State {
	case Open.String():
		v.State = Open
		sound = sound && s.Cause == smtptls.CauseNone && s.BackOff == 0
	case Closed.String():
		v.State, longest = Closed, closedFor
		sound = sound && s.Cause != smtptls.CauseNone && slices.Contains(smtptls.Causes(), s.Cause) &&
			s.BackOff >= closedFirst && s.BackOff <= closedLast
	default:
		return Verdict{}, false
	}
	live := !now.Before(v.Checked) && now.Before(v.Expires) && !now.Before(s.Asked) && now.Sub(s.Asked) < forgottenAge
	return v, sound && live && v.Expires.Sub(v.Checked) <= longest
}
