package lookup

import (
	"context"
	"errors"
	"slices"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
)

// leaving notes what follows from a TLS-policy lookup, which is for mail that leaves this site.
func (s *Service) leaving(c *call, a *answered, facts *policy.Facts) {
	d, o := &a.decision, c.set.Policy
	if found, ok := policy.Observed(*facts, o, *d); ok && s.sources.Promised != nil {
		s.sources.Promised(a.next.Name, found)
	}
	if s.sources.Record != nil && !c.warm {
		a.again = s.sources.Record(recorded(a.next, d))
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

// wantProbes makes the hosts of a TLS-policy answer due for a probe, unless this site receives the domain itself or
// cannot find out: no route follows then. A site that has not been read yet does not delay the probe.
func (s *Service) wantProbes(c *call, a *answered) {
	if len(a.probe) == 0 {
		return
	}
	own, _, err := s.sources.Site.Own(c.ctx, a.next.Name, dns.Effort{CacheOnly: true})
	switch {
	case errors.Is(err, dns.ErrNotCached):
	case own, err != nil, slices.ContainsFunc(a.probe, s.sources.Site.OwnHost):
		return
	}
	for _, host := range a.probe {
		s.sources.WantProbe(host)
	}
}

// Warm evaluates a domain as for mail to it, and returns the status word of the answer with mode "enforce" and the
// source of the decision. It fills the caches and the memory of promises, and is not counted as a lookup.
func (s *Service) Warm(ctx context.Context, domain string) (status, source string) {
	a := s.decide(&call{ctx: ctx, m: tlsPolicy, key: domain, set: s.force.Load(), warm: true})
	return a.reply.Status.String(), string(a.decision.Source())
}
