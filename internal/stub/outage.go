package stub

import (
	"context"
	"slices"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

const (
	// silentInterval is how often a server that does not answer is looked at, whether somebody asks for something or not.
	silentInterval = 2 * time.Second
	// outageLeast is how long a server must have been silent for what failed meanwhile to be tried again at once. A
	// stranger's slow name servers make one look silent for shorter than that.
	outageLeast = 5 * time.Second
)

// outage is a time in which a server does not answer. What fails meanwhile says nothing about the names that were asked
// for, so their back-off (RFC 9520 section 3.2), which may have grown to minutes, ends with it.
type outage struct{ since time.Time }

// begins notes that a server does not answer; p.mu is held.
func (p *penalties) begins(now time.Time) {
	if p.outage == nil {
		p.outage = &outage{since: now}
	}
}

// ends notes that one answers again; p.mu is held.
func (p *penalties) ends(now time.Time) {
	if p.outage != nil && now.Sub(p.outage.since) >= outageLeast {
		p.ended.Add(1)
	}
	p.outage = nil
}

// watchSilent asks servers that do not answer, or answered late, whether they do again, until ctx ends: names that back off
// would not. While no question has an answer, it asks all of them.
func (s *Stub) watchSilent(ctx context.Context) {
	tick := time.NewTicker(silentInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, began := s.now.Load(), time.Now()
		failing, dry := s.drought.watched()
		var sound []Server
		for _, server := range now.servers {
			if !dry && !s.penalties.punished(server) && !s.late.watched(server) {
				continue
			}
			asked := time.Now()
			name, _ := dns.OnWire(now.options.SelfTestNames[0])
			answer, err := s.try(ctx, tryOptions{state: now, server: server, timeout: now.options.Timeout}, newQuery(name, miekg.TypeNS, miekg.ClassINET))
			if err == nil {
				s.rate(now, server, nil)
				s.late.checked(now.options.Logger, server, time.Since(asked))
			}
			if err == nil && ofUse(answer) && slices.Contains(now.candidates(), server) {
				sound = append(sound, server)
			}
		}
		if dry && ctx.Err() == nil {
			s.drought.checked(began, len(sound) == 0)
			s.askAgain(ctx, tryOptions{state: now, timeout: now.options.Timeout}, failing, sound)
		}
	}
}

func (p *penalties) punished(s Server) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, punished := p.until[s]
	return punished
}
