package policy

import (
	"slices"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/probe"
)

// Route returns the route that transport_maps gives mail to f.Nexthop.Name, and in Need the facts that are missing. The
// route leads over port 26. Without a route, mail goes over the default transport to port 25, where the TLS policy
// holds. That is the answer in every case of doubt, so Route never defers.
func Route(f Facts, o Options) Decision {
	d := Decision{Verdict: None, Reason: ReasonNoRoute}
	if why := d.route(&f, &o); why != "" {
		d.because(why)
	}
	return d
}

// route fills in the decision and returns the reason, or "" while facts are missing. It looks first for anything that
// rules a route out, then at the hosts, then at the key that Postfix asks for next.
func (d *Decision) route(f *Facts, o *Options) string {
	if why := ruledOut(f, o); why != "" {
		return why
	}
	missing := &d.Need.Required
	missing.MX = !f.Known.MX
	missing.Probes = f.Known.MX && o.Port26Mode == PortProbe && !f.Known.Probes
	if !missing.Empty() {
		return ""
	}
	hosts, _ := bestGroups(f, func(h Host) bool { return !port26Usable(&h, o) })
	switch {
	case len(hosts) == 0:
		return "not every MX host of the best preference is an smtps- host " + port26Condition(o) + closedHost(f, o)
	case !f.Known.Receiver:
		missing.Receiver = true
		return ""
	case f.Receiver.Here:
		d.Reason = ReasonReceiver
		return "no route, this site receives the domain: " + f.Receiver.Why
	case !f.Receiver.Known:
		return "no route, in doubt: " + f.Receiver.Why
	}
	if o.DANE { // hosts are the first of f.Hosts, and so have the same indices
		missing.DANE = daneUnknown(hosts)
		missing.DANE26 = hostsWhere(hosts, func(h *Host) bool { return h.DANE26.State == dane.Unknown })
	}
	missing.STS = stsMissing(f, o)
	switch {
	case !missing.Empty():
		return ""
	case stsUnknown(f, o):
		return "no route, in doubt: the MTA-STS policy is not known: " + stsFailure(f.STS)
	}
	return d.plan(f, o)
}

// plan chooses the next hops of a route when every fact is known, and returns the reason. Postfix asks for the TLS
// policy of each of them, which must verify the host.
func (d *Decision) plan(f *Facts, o *Options) string {
	hosts, all := bestGroups(f, func(h Host) bool { return !port26Usable(&h, o) || reasonForPort25(f, &h, o) != "" })
	if len(hosts) == 0 {
		i := slices.IndexFunc(f.Hosts, func(h Host) bool { return reasonForPort25(f, &h, o) != "" })
		return reasonForPort25(f, &f.Hosts[i], o)
	}
	to := []Nexthop{{Name: f.Nexthop.Name, Port: o.Port26}}
	reason, why := ReasonRouteDomain, "every MX host is an smtps- host "
	if !all {
		to, reason, why = nil, ReasonRouteHosts, "the best MX hosts are smtps- hosts "
		for i := range hosts {
			to = append(to, Nexthop{Name: hosts[i].Name, Host: true, Port: o.Port26})
		}
	}
	for _, next := range to {
		decision := Decide(factsAt(f, next), *o)
		if decision.TLS.Level != LevelSecure && decision.TLS.Level != LevelDANEOnly {
			return "the policy for " + next.String() + " requires no verified host"
		}
	}
	d.Verdict, d.Reason, d.Route = Apply, reason, to
	return why + port26Condition(o)
}

// factsAt returns the facts for the key that Postfix asks for after it has followed a route to next: the TLSA records
// of that port decide.
func factsAt(f *Facts, next Nexthop) Facts {
	there := *f
	if next.Host {
		i := slices.IndexFunc(f.Hosts, func(h Host) bool { return h.Name == next.Name })
		there = Facts{Hosts: f.Hosts[i : i+1]}
	}
	there.Nexthop, there.Hosts = next, slices.Clone(there.Hosts)
	for i := range there.Hosts {
		there.Hosts[i].DANE = there.Hosts[i].DANE26
	}
	return there
}

// port26Condition returns the condition on the port of implicit TLS for a route.
func port26Condition(o *Options) string {
	if o.Port26Mode == PortAlways {
		return `(port26.mode = "always": no probe is needed)`
	}
	return "with port " + portText(o.Port26) + " open"
}

// ruledOut returns the reason why the settings, or the MX RRset if it is known, rule a route out; "" if they do not.
func ruledOut(f *Facts, o *Options) string {
	line := o.Overrides.For(f.Nexthop.Name)
	switch {
	case o.Mode == ModeOff:
		return `mode = "off": every lookup gets NOTFOUND`
	case o.Port26Mode != PortProbe && o.Port26Mode != PortAlways:
		return `port26.mode = "off"`
	case line.Pattern != "":
		return line.why()
	case f.Nexthop.Host || f.Nexthop.Name == "":
		return "no route without an MX RRset"
	case f.MX.Err != nil:
		return "no route: the MX lookup failed: " + Cause(f.MX.Err)
	case !f.Known.MX:
		return ""
	case len(f.Hosts) == 0:
		return "there is no MX host"
	case !f.Hosts[0].Class.ImplicitTLS():
		return "the best MX host is not an smtps- host"
	}
	return whyPrefixIgnored(f, o)
}

// port26Usable reports whether implicit TLS can be used with a host, as far as its name and its port are concerned.
func port26Usable(h *Host, o *Options) bool {
	return h.Class.ImplicitTLS() && (o.Port26Mode == PortAlways || h.Probe.State == probe.Open)
}

// closedHost names an smtps- host of the best preference that is not open: closed with a cause, or not probed.
func closedHost(f *Facts, o *Options) string {
	i := slices.IndexFunc(f.Hosts, func(h Host) bool {
		return h.Preference == f.Hosts[0].Preference && h.Class.ImplicitTLS() && !port26Usable(&h, o)
	})
	if i < 0 {
		return ""
	}
	h := &f.Hosts[i]
	what := ": " + h.Name + " is " + h.Probe.State.String()
	switch {
	case h.Probe.Cause != "":
		what += " (" + string(h.Probe.Cause) + ")"
	case o.Overrides.For(h.Name).Pattern != "":
		what += " (not probed: " + o.Overrides.For(h.Name).why() + ")"
	case o.Mode == ModeReport:
		what += ` (not probed: mode = "report")`
	}
	return what
}

// reasonForPort25 returns the reason why mail for an open host stays on port 25; "" if it does not.
func reasonForPort25(f *Facts, h *Host, o *Options) string {
	line, port := o.Overrides.For(h.Name), portText(o.Port26)
	switch {
	case line.Pattern != "":
		return line.why()
	case o.DANE && (h.DANE.State == dane.Unknown || h.DANE.State == dane.Failed):
		return "no route, in doubt: DANE for port 25 of " + h.Name + " is " + h.DANE.State.String()
	case o.DANE && h.withTLSA() && h.DANE26.State != dane.Usable:
		return h.Name + " has TLSA records for port 25 but no usable ones for port " + port +
			": it stays on port 25 with DANE"
	case o.DANE && (h.DANE26.State == dane.Unknown || h.DANE26.State == dane.Failed):
		return "no route, in doubt: DANE for port " + port + " of " + h.Name + " is " + h.DANE26.State.String()
	case stsEnforced(f, o) && !f.STS.Policy.Matches(h.Name):
		return "the MTA-STS policy does not allow " + h.Name
	}
	return ""
}

// bestGroups returns the hosts of the best preference groups in which none is bad, and whether those are all MX hosts.
func bestGroups(f *Facts, bad func(Host) bool) (hosts []Host, all bool) {
	stop, all := f.MX.RestPreference, f.MX.Rest == 0
	if i := slices.IndexFunc(f.Hosts, bad); i >= 0 {
		stop, all = f.Hosts[i].Preference, false
	}
	end := slices.IndexFunc(f.Hosts, func(h Host) bool { return h.Preference >= stop })
	if all || end < 0 {
		return f.Hosts, all
	}
	return f.Hosts[:end], false
}
