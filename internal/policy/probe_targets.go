package policy

// ProbeTargets returns the hosts whose port of implicit TLS must be probed before Route can lead to them: the smtps-
// hosts of the leading preference groups that have no other hosts. It returns none where no route can follow whatever a
// probe finds: in report mode, for a domain with a line in the overrides file, and where the settings rule a route
// out. f are the facts of a TLS-policy lookup: mail for the domain, or already on its way to port 26, is leaving.
func ProbeTargets(f Facts, overrides *Overrides, o Options) []string {
	if o.Mode != ModeEnforce || o.Port26.Mode != PortProbe {
		return nil
	}
	onPort26 := f.Nexthop.Port == o.Port26.Port
	if f.Nexthop.Host {
		host := Host{Name: f.Nexthop.Name, Class: classOf(f.Nexthop.Name)}
		if !onPort26 || !probeable(&host, overrides) {
			return nil
		}
		return []string{host.Name}
	}
	if f.Override.Action != ActionNone || refused(f, o) != "" {
		return nil
	}
	hosts, _ := leading(f, func(h *Host) bool {
		return probeable(h, overrides) && (!enforced(f, o) || f.STS.Policy.Matches(h.Name))
	})
	names := make([]string, len(hosts))
	for i := range hosts {
		names[i] = hosts[i].Name
	}
	return names
}

// probeable reports whether a route could lead to a host once its port is open.
func probeable(h *Host, overrides *Overrides) bool {
	return h.Class.ImplicitTLS() && overrides.For(h.Name).Action == ActionNone
}
