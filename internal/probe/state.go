package probe

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
)

// saved is the form of a host on disk, under its name.
type saved struct {
	// Port and Special are those of the Options: the verdict is not valid under others.
	Port    uint16 `json:"port"`
	Special bool   `json:"special,omitempty"`
	Verdict
	Asked   time.Time     `json:"asked"`
	BackOff time.Duration `json:"back_off,omitempty"`
}

// encode returns a host in its form on disk, or nil if there is no verdict about it.
func (p *Prober) encode(h *host) []byte {
	if h.verdict.State == Unknown {
		return nil
	}
	o := p.options.Load()
	b, _ := json.Marshal(saved{ // numbers, strings and times do not fail
		Port: o.Port, Special: o.Special, Verdict: h.verdict, Asked: h.asked, BackOff: h.closedBackOff,
	})
	return b
}

// decode reads what encode wrote. The error is that of a verdict that must not be used under the present options.
func (p *Prober) decode(name string, value []byte) (*host, error) {
	var s saved
	o := p.options.Load()
	err := json.Unmarshal(value, &s)
	canonical, valid := hostName(name)
	if err != nil || !valid || canonical != name || s.Port != o.Port || s.Special != o.Special ||
		!s.sound(wallClock()) {
		return nil, errors.New("probe: not a sound verdict under the present options")
	}
	return &host{
		name: name, asked: s.Asked, verdict: s.Verdict, closedBackOff: s.BackOff, retry: s.Checked.Add(s.BackOff),
	}, nil
}

// sound reports whether encode can have written this, and whether the verdict is still valid. The disk is trusted no
// more than a host.
func (s saved) sound(now time.Time) bool {
	life := s.Expires.Sub(s.Checked)
	open := s.State == Open && s.Cause == smtptls.CauseNone && s.BackOff == 0 && life <= openLife
	closed := s.State == Closed && s.Cause != smtptls.CauseNone && life <= closedLife &&
		s.BackOff >= minClosedBackOff && s.BackOff <= maxClosedBackOff
	live := !now.Before(s.Checked) && now.Before(s.Expires) && !now.Before(s.Asked) && now.Sub(s.Asked) < forgottenAfter
	printable := smtptls.Tidy(s.Why) == s.Why && smtptls.Tidy(string(s.Cause)) == string(s.Cause)
	return (open || closed) && live && printable
}
