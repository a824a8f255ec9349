package policy

import (
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// Route answers where transport_maps sends the mail of f.Nexthop.Name: over port 26, or
// NOTFOUND, which leaves it to the default transport and port 25, where the TLS policy holds.
// NOTFOUND is the answer to every doubt, so Route never says TEMP.
func Route(f Facts, o Options) Decision {
	d := Decision{Reply: socketmap.NotFound()}
	to, why := candidate(f, o)
	switch {
	case to == "":
		d.because(why)
	case f.Receiver.State == ReceiverHere:
		d.because("no route, this site receives the domain: " + f.Receiver.Why)
	case f.Receiver.State != ReceiverElsewhere:
		d.because("no route, in doubt: " + f.Receiver.Why)
	default:
		d.Reply, d.Source = socketmap.OK(to), SourcePrefix
		d.because(why)
	}
	d.Would = d.Reply
	if o.Mode == ModeReport && d.Would.Status == socketmap.StatusOK {
		d.Reply = socketmap.NotFound()
		d.because(`mode = "report": Postfix gets NOTFOUND in place of this`)
	}
	return d
}

// candidate is the route as far as the MX hosts and their policy decide it, "" for none, and why.
func candidate(f Facts, o Options) (to, why string) {
	switch {
	case o.Mode == ModeOff:
		return "", `mode = "off": everything is answered NOTFOUND`
	case o.Port26.Mode == PortOff:
		return "", `port26.mode = "off"`
	case f.Override.Action != ActionNone:
		return "", "the overrides file has a line for " + f.Override.Pattern
	case f.Nexthop.Host || f.Nexthop.Name == "" || f.MX.Err != nil || !f.MX.Asked:
		return "", "no route without an MX RRset"
	case len(f.Hosts) == 0 || f.Hosts[0].Class != prefix.SMTPS:
		return "", "the best MX host is no smtps- host"
	}
	open, all := leading(f, o)
	if len(open) == 0 {
		return "", "not every MX host of the best preference is an smtps- host with port " + portText(o.Port26.Port) + " open"
	}
	if all {
		if !verified(f, Nexthop{Name: f.Nexthop.Name, Port: o.Port26.Port}, o) {
			return "", "the policy for port " + portText(o.Port26.Port) + " asks for no verified host"
		}
		return routeToDomain(o.Port26.Transport, f.Nexthop.Name, o.Port26.Port), "every MX host is an smtps- host with port " + portText(o.Port26.Port) + " open"
	}
	hosts := make([]string, len(open))
	for i, h := range open {
		byName := Facts{Override: h.Override}
		if h.Override.Action != ActionNone || !verified(byName, Nexthop{Name: h.Name, Host: true, Port: o.Port26.Port}, o) {
			return "", "the policy for [" + h.Name + "]:" + portText(o.Port26.Port) + " asks for no verified host"
		}
		hosts[i] = h.Name
	}
	// mixed_mx and unsigned_mx rule over the set, also where the route names single hosts.
	if !verified(f, Nexthop{Name: f.Nexthop.Name, Port: o.Port26.Port}, o) {
		return "", "the policy for the domain asks for no verified host"
	}
	return routeToHosts(o.Port26.Transport, hosts, o.Port26.Port), "the best MX hosts are smtps- hosts with port " + portText(o.Port26.Port) + " open"
}

// verified says whether the key that Postfix asks for after following a route is answered with a
// policy that verifies the host, from the same facts.
func verified(f Facts, key Nexthop, o Options) bool {
	f.Nexthop = key
	level := Decide(f, o).Level
	return level == LevelSecure || level == LevelDANEOnly
}

// leading returns the hosts of the leading preference groups of which every host is an smtps- host
// whose port is open, and whether those are all the MX hosts there are.
func leading(f Facts, o Options) (open []Host, all bool) {
	start := 0
	for start < len(f.Hosts) {
		end := start
		for end < len(f.Hosts) && f.Hosts[end].Preference == f.Hosts[start].Preference {
			if !usable(f.Hosts[end], o) {
				return f.Hosts[:start], false
			}
			end++
		}
		if end == len(f.Hosts) && f.MX.Rest > 0 && f.MX.RestPreference == f.Hosts[start].Preference {
			// The group goes on among the hosts that are not considered.
			return f.Hosts[:start], false
		}
		start = end
	}
	return f.Hosts, f.MX.Rest == 0
}

// usable says whether implicit TLS is to be used with a host.
func usable(h Host, o Options) bool {
	return h.Class == prefix.SMTPS && o.Port26.Mode == PortAlways
}
