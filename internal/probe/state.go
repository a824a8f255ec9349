package probe

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/statedb"
)

// saved is the form of a host on disk, under its name.
type saved struct {
	// Port and Special are those of the Options: the verdict is worth nothing under others.
	Port    uint16 `json:"port"`
	Special bool   `json:"special,omitempty"`
	Verdict
	Asked   time.Time     `json:"asked"`
	BackOff time.Duration `json:"back_off,omitempty"`
}

// openDisk opens the database and takes over what it has.
func (p *Prober) openDisk() {
	p.disk = statedb.New(statedb.Options{
		Dir: p.options.StateDir, Name: "probes.db", Bucket: "probes-1", Log: p.options.Logger,
		Names: p.names, Encode: p.encoded, Load: p.load,
	})
	p.disk.Open()
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
	b, _ := json.Marshal(saved{ // numbers, strings and times do not fail
		Port: p.options.Port, Special: p.options.Special, Verdict: h.verdict, Asked: h.asked, BackOff: h.closedFor,
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
	host, valid := hostName(name)
	if !s.sound(wallClock()) || !valid || host != name || s.Port != p.options.Port || s.Special != p.options.Special ||
		p.hosts[name] != nil || len(p.hosts) >= maxHosts {
		return false
	}
	h := p.known(name, s.Asked)
	h.verdict, h.closedFor, h.retry = s.Verdict, s.BackOff, s.Checked.Add(s.BackOff)
	return true
}

// sound reports whether encoded has written this, and whether the verdict is still valid: the disk is trusted no more
// than a host.
func (s saved) sound(now time.Time) bool {
	life := s.Expires.Sub(s.Checked)
	open := s.State == Open && s.Cause == smtptls.CauseNone && s.BackOff == 0 && life <= openFor
	closed := s.State == Closed && s.Cause != smtptls.CauseNone && life <= closedFor &&
		s.BackOff >= closedFirst && s.BackOff <= closedLast
	live := !now.Before(s.Checked) && now.Before(s.Expires) && !now.Before(s.Asked) && now.Sub(s.Asked) < forgottenAge
	printable := smtptls.Tidy(s.Why) == s.Why && smtptls.Tidy(string(s.Cause)) == string(s.Cause)
	return (open || closed) && live && printable
}
