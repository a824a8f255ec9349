package lookup

import (
	"errors"
	"slices"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
)

// afterTLSPolicy does what follows from a decision of a TLS-policy lookup, which is for mail that leaves this site: the
// promises of the domain are remembered, the report records the lookup, and wantProbes gets the hosts.
func (s *Service) afterTLSPolicy(c *call, a *answered, facts *policy.Facts) {
	d, o := &a.decision, c.set.Policy
	found, ok := policy.Observed(*facts, o, *d)
	if ok && s.sources.Promised != nil {
		s.sources.Promised(a.next.Name, found)
	}
	if s.sources.Record != nil && !c.warm {
		a.repeated = s.sources.Record(reportEntry(a.next, d))
	}
	if s.sources.WantProbe != nil {
		a.probe = policy.ProbeTargets(*facts, o)
	}
	if d.Reason == policy.ReasonOwnRelay {
		if times, due := s.relayed.Due(); due {
			s.log.Warn("relay host of Postfix cannot be looked up; delivering without a TLS policy",
				"nexthop", a.next.String(), "reason", d.Why[0], "times", times)
		}
	}
}

// wantProbes makes the hosts of a TLS-policy answer due for a probe, unless this site receives the domain or cannot
// find out whether it does: no route follows then. It does not wait until the lists of the site have been read.
func (s *Service) wantProbes(c *call, a *answered) {
	if len(a.probe) == 0 {
		return
	}
	own, _, err := s.sources.Site.Own(c.ctx, a.next.Name, dns.Effort{CacheOnly: true})
	notRead := errors.Is(err, dns.ErrNotCached)
	if !notRead && (own || err != nil || slices.ContainsFunc(a.probe, s.sources.Site.OwnHost)) {
		return
	}
	for _, host := range a.probe {
		s.sources.WantProbe(host)
	}
}
