package probe

import "maps"

// Stats are counters since the start, and the size. Their JSON form is stable.
type Stats struct {
	// Hosts counts the known hosts by state: open, closed and unknown.
	Hosts map[string]uint64 `json:"hosts"`
	// EgressFiltered is set while the port appears to be blocked on our side.
	EgressFiltered bool `json:"egress_filtered"`
	// Results counts probes by what they found: "open", the cause of a closed host with hyphens in place of spaces, or
	// "unknown" where the probe failed on our side.
	Results map[string]uint64 `json:"results"`
}

// Stats returns the counters as they are.
func (p *Prober) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	hosts := map[string]uint64{Open.String(): 0, Closed.String(): 0, Unknown.String(): 0}
	for _, h := range p.hosts {
		hosts[h.verdict.State.String()]++
	}
	return Stats{Results: maps.Clone(p.results), Hosts: hosts, EgressFiltered: p.egress.filtered}
}
