package probe

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// counters count since the start.
type counters struct {
	results map[string]uint64
	dropped uint64
	running int
}

func (c *counters) count(v Verdict) {
	result := v.State.String()
	if v.State == Closed {
		result = string(v.Cause)
	}
	c.results[result]++
}

// Stats are counters since the start, and the size.
type Stats struct {
	// Results counts probes by what they found: "open", the cause of a closed host, or "unknown" where the probe
	// failed on our side.
	Results map[string]uint64
	// Hosts is how many are known, Open, Closed and Unknown how many of each state there are among them.
	Hosts, Open, Closed, Unknown int
	// Queue is how many wait for a worker, Running how many are being probed.
	Queue, Running int
	// Dropped counts hosts that waited while too many others did.
	Dropped uint64
	// EgressFiltered is set while the port appears to be blocked on our side.
	EgressFiltered bool
}

// Stats returns the counters as they are.
func (p *Prober) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{
		Results: maps.Clone(p.counters.results), Hosts: len(p.hosts), Queue: p.waiting(), Running: p.counters.running,
		Dropped: p.counters.dropped, EgressFiltered: p.egress.filtered,
	}
	for _, h := range p.hosts {
		switch h.verdict.State {
		case Open:
			s.Open++
		case Closed:
			s.Closed++
		case Unknown:
			s.Unknown++
		}
	}
	return s
}

// waiting is how many hosts wait for a worker; p.mu is held.
func (p *Prober) waiting() int { return p.queues[0].Len() + p.queues[1].Len() }

// Entry is what is known about a host.
type Entry struct {
	Host    string
	Verdict Verdict
	// Asked is when mail last wanted it.
	Asked time.Time
	// Next is when it is probed again; zero if that waits until it is wanted.
	Next time.Time
}

// List returns all hosts by name.
func (p *Prober) List() []Entry {
	now := wallClock()
	p.mu.Lock()
	list := make([]Entry, 0, len(p.hosts))
	for _, h := range p.hosts {
		list = append(list, Entry{Host: h.name, Verdict: h.valid(now), Asked: h.asked, Next: h.due})
	}
	p.mu.Unlock()
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Host, b.Host) })
	return list
}
