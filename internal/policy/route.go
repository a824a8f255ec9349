package policy

import (
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/socketmap"
)

// Route answers where transport_maps sends the mail of f.Nexthop.Name: over port 26, or
// NOTFOUND, which leaves it to the default transport and port 25, where the TLS policy holds.
// NOTFOUND is the answer to every doubt, so Route never says TEMP.
func Route(f Facts, o Options) Decision {
	d := Decision{Reply: socketmap.NotFound(), Reason: ReasonNoRoute}
	route(f, o, &d)
	d.Would = d.Reply
	if o.Mode == ModeReport && d.Would.Status == socketmap.StatusOK {
		d.Reply = socketmap.NotFound()
		d.because(`mode = "report": Postfix gets NOTFOUND in place of this`)
	}
	return d
}

// route fills in the decision: first what rules a route out, then the hosts, then the key that Postfix asks for next.
func route(f Facts, o Options, d *Decision) {
	if why := refused(f, o); why != "" {
		d.because(why)
		return
	}
	port := portText(o.Port26.Port)
	if hosts, _ := leading(f, func(h *Host) bool { return open(h, o) }); len(hosts) == 0 {
		d.because("not every MX host of the best preference is an smtps- host " + ported(o) + closedHost(f, o))
		return
	}
	switch {
	case f.Receiver.State == ReceiverHere:
		d.Reason = ReasonReceiver
		d.because("no route, this site receives the domain: " + f.Receiver.Why)
		return
	case f.Receiver.State != ReceiverElsewhere:
		d.because("no route, in doubt: " + f.Receiver.Why)
		return
	case o.MTASTS && f.STS.State == mtasts.Unknown:
		d.because("no route, in doubt: the MTA-STS policy is not known: " + stsDoubt(f.STS))
		return
	}
	hosts, all := leading(f, func(h *Host) bool { return open(h, o) && stays(f, h, o) == "" })
	if len(hosts) == 0 {
		for i := range f.Hosts {
			if why := stays(f, &f.Hosts[i], o); why != "" {
				d.because(why)
				break
			}
		}
		return
	}
	if all {
		if !verified(onPort26(f, o), o) {
			d.because("the policy for port " + port + " asks for no verified host")
			return
		}
		d.Reply, d.Source, d.Reason = socketmap.OK(routeToDomain(o.Port26.Transport, f.Nexthop.Name, o.Port26.Port)), SourcePrefix, ReasonRouteDomain
		d.because("every MX host is an smtps- host " + ported(o))
		return
	}
	names := make([]string, len(hosts))
	for i := range hosts {
		names[i] = hosts[i].Name
		if hosts[i].Override.Action != ActionNone || !verified(hostOnPort26(&hosts[i], o), o) {
			d.because("the policy for [" + names[i] + "]:" + port + " asks for no verified host")
			return
		}
	}
	d.Reply, d.Source, d.Reason = socketmap.OK(routeToHosts(o.Port26.Transport, names, o.Port26.Port)), SourcePrefix, ReasonRouteHosts
	d.because("the best MX hosts are smtps- hosts " + ported(o))
}

// ported says for people what is asked of the port of implicit TLS.
func ported(o Options) string {
	if o.Port26.Mode == PortAlways {
		return `(port26.mode = "always": no probe is asked for)`
	}
	return "with port " + portText(o.Port26.Port) + " open"
}

// refused says what rules a route out before anything is known of the hosts' ports, "" if nothing does.
func refused(f Facts, o Options) string {
	switch {
	case o.Mode == ModeOff:
		return `mode = "off": everything is answered NOTFOUND`
	case o.Port26.Mode == PortOff:
		return `port26.mode = "off"`
	case f.Override.Action != ActionNone:
		return "the overrides file has a line for " + f.Override.Pattern
	case f.Nexthop.Host || f.Nexthop.Name == "" || f.MX.Err != nil || !f.MX.Asked:
		return "no route without an MX RRset"
	case len(f.Hosts) == 0:
		return "there is no MX host"
	case !f.Hosts[0].Class.ImplicitTLS():
		return "the best MX host is no smtps- host"
	}
	_, mixed := prefixed(f)
	return dishonoured(f, mixed, o)
}

// open says whether implicit TLS can be used with a host, as far as its name and its port go.
func open(h *Host, o Options) bool {
	if !h.Class.ImplicitTLS() {
		return false
	}
	return o.Port26.Mode == PortAlways || o.Port26.Mode == PortProbe && h.Probe.State == probe.Open
}

// closedHost says for people which smtps- host of the best preference is not open.
func closedHost(f Facts, o Options) string {
	for i := range f.Hosts {
		h := &f.Hosts[i]
		if h.Preference != f.Hosts[0].Preference || !h.Class.ImplicitTLS() || open(h, o) {
			continue
		}
		text := ": " + h.Name + " is " + h.Probe.State.String()
		if h.Probe.Cause != smtptls.CauseNone {
			text += " (" + string(h.Probe.Cause) + ")"
		}
		return text
	}
	return ""
}

// stays says why an open host stays on port 25 all the same, "" if it does not.
func stays(f Facts, h *Host, o Options) string {
	if o.DANE {
		switch h.DANE.State {
		case dane.Unknown, dane.Failed:
			return "no route, in doubt: DANE for port 25 of " + h.Name + " is " + h.DANE.State.String()
		case dane.Usable, dane.Unusable:
			if h.DANE26.State != dane.Usable {
				return h.Name + " has TLSA records for port 25 and no usable ones for port " + portText(o.Port26.Port) + ": it stays on port 25 with DANE"
			}
		case dane.Absent, dane.Unreachable:
		}
		if h.DANE26.State == dane.Unknown || h.DANE26.State == dane.Failed {
			return "no route, in doubt: DANE for port " + portText(o.Port26.Port) + " of " + h.Name + " is " + h.DANE26.State.String()
		}
	}
	if enforced(f, o) && !f.STS.Policy.Matches(h.Name) {
		return "the MTA-STS policy does not allow " + h.Name
	}
	return ""
}

// onPort26 returns the facts for the key that Postfix asks for after following a route to the domain.
func onPort26(f Facts, o Options) Facts {
	hosts := make([]Host, len(f.Hosts))
	for i, h := range f.Hosts {
		h.DANE = h.DANE26
		hosts[i] = h
	}
	f.Nexthop, f.Hosts = Nexthop{Name: f.Nexthop.Name, Port: o.Port26.Port}, hosts
	return f
}

// hostOnPort26 returns the facts for the key that Postfix asks for after following a route to a host.
func hostOnPort26(h *Host, o Options) Facts {
	return Facts{
		Nexthop:  Nexthop{Name: h.Name, Host: true, Port: o.Port26.Port},
		Override: h.Override,
		Hosts:    []Host{{Name: h.Name, Class: h.Class, DANE: h.DANE26}},
	}
}

// verified says whether a key is answered with a policy that verifies the host.
func verified(f Facts, o Options) bool {
	level := Decide(f, o).Level
	return level == LevelSecure || level == LevelDANEOnly
}

// leading returns the hosts of the leading preference groups of which every host is good, and whether those are
// all the MX hosts there are.
func leading(f Facts, good func(*Host) bool) (hosts []Host, all bool) {
	start := 0
	for start < len(f.Hosts) {
		end := start
		for end < len(f.Hosts) && f.Hosts[end].Preference == f.Hosts[start].Preference {
			if !good(&f.Hosts[end]) {
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
