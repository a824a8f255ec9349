package policy

import "strings"

// ProbeTargets returns the hosts whose port of implicit TLS must be probed before Route can lead to them: the smtps-
// hosts of the best preference groups that have no other hosts. It returns none where no route can follow whatever a
// probe finds: in report mode, for a domain with a line in the overrides file, and where the settings rule a route
// out. f are the facts of a TLS-policy lookup: mail for the domain is leaving, or is already on its way to port 26.
func ProbeTargets(f Facts, o Options) []string {
	host := f.Nexthop.Host
	if o.Mode != ModeEnforce || o.Port26Mode != PortProbe || host && f.Nexthop.Port != o.Port26 ||
		!host && (!f.Known.MX || ruledOut(&f, &o) != "") {
		return nil
	}
	hosts, _ := bestGroups(&f, func(h Host) bool {
		return !h.Class.ImplicitTLS() || o.Overrides.For(h.Name).Pattern != "" ||
			stsEnforced(&f, &o) && !f.STS.Policy.Matches(h.Name)
	})
	names := make([]string, len(hosts))
	for i := range hosts {
		names[i] = strings.Clone(hosts[i].Name) // the prober must not keep the whole answer in memory
	}
	return names
}
