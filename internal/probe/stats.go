package probe

import "maps"

// Stats are counters since the start, and the size.
type Stats struct {
	// Results counts probes by what they found: "open", the cause of a closed host, or "unknown" where the probe
	// failed on our side.
	Results map[string]uint64
	// Open, Closed and Unknown are how many hosts of each state are known.
	Open, Closed, Unknown int
	// EgressFiltered is set while the port appears to be blocked on our side.
	EgressFiltered bool
}

// Stats returns the counters as they are.
func (p *Prober) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	hosts := map[State]int{}
	for _, h := range p.hosts {
		hosts[h.verdict.State]++
	}
	return Stats{Results: maps.Clone(p.results), Open: hosts[Open], Closed: hosts[Closed], Unknown: hosts[Unknown],
		EgressFiltered: p.egress.filtered}
}
