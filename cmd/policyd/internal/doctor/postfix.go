package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/lookup"
)

// is shows a parameter with its value.
func is(name, value string) string {
	if value == "" {
		return name + " is empty"
	}
	return name + " = " + value
}

// checkVersion examines the version of Postfix.
func (e *exam) checkVersion() {
	v := e.version
	switch {
	case !v.since(4):
		e.found("postfix-too-old", "Postfix "+v.text, "# upgrade to Postfix 3.4 or later")
	case !v.since(5):
		e.found("postfix-no-host-list", "Postfix "+v.text, e.setting("port26", `mode = "off"`),
			"# or upgrade to Postfix 3.5 or later")
	case v.since(10):
		e.found("postfix-version", "Postfix "+v.text+
			" supports TLS policies, TLSRPT attributes, and every kind of route")
	default:
		e.found("postfix-version", "Postfix "+v.text+
			" supports TLS policies and every kind of route, but not TLSRPT attributes")
	}
}

// checkMain examines the parameters of main.cf that policies depend on.
func (e *exam) checkMain() {
	for _, r := range mainRules() {
		value := e.params[r.Name]
		switch {
		case r.dane && !e.Settings.Policy.DANE:
		case !r.accepts(value):
			e.found(r.wrong, is(r.Name, value), e.set(r.Name, r.Value))
		case r.right != "" && !e.has(r.wrong):
			e.found(r.right, is(r.Name, value))
		}
	}
}

// checkTLSRequired examines what the header "TLS-Required: no" of a message (RFC 8689) does to the policies.
func (e *exam) checkTLSRequired() {
	if !e.version.since(10) || e.params["tls_required_enable"] == "no" {
		return
	}
	off := e.set("tls_required_enable", "no")
	const lastBroken = 5
	if _, at := e.ours(transportMaps); at >= 0 && e.version.between(10, lastBroken) {
		e.found("tls-required-breaks-port26", "Postfix "+e.version.text+" with the service "+e.transport+
			" and tls_required_enable = yes",
			off, "# or upgrade Postfix to 3.10.6 or later")
		return
	}
	e.found("tls-required-header", "tls_required_enable = yes", "# if you do not want that:", off)
}

// checkPolicyMaps examines smtp_tls_policy_maps, of main.cf and of the services that set it themselves.
func (e *exam) checkPolicyMaps() {
	list, at := e.ours(policyMaps)
	wanted := e.set(policyMaps, e.wanted(policyMaps))
	if at < 0 {
		if !slices.ContainsFunc(list, e.unknown) { // see checkUnknownMaps
			e.found("tls-map-missing", is(policyMaps, e.params[policyMaps]), wanted)
		}
		return
	}
	first := list[at]
	e.found("tls-map-present", "smtp_tls_policy_maps has "+first.text)
	if at > 0 {
		e.found("tls-map-shadowed", "smtp_tls_policy_maps asks "+list[0].text+" first")
	}
	switch {
	case first.hasTLSRPT() && !e.version.since(10):
		e.found("tls-map-tlsrpt-too-early", first.text+" with Postfix "+e.version.text, wanted)
	case !first.hasTLSRPT() && e.wantsTLSRPT():
		e.found("tls-map-no-tlsrpt", first.text+" with Postfix "+e.version.text, wanted)
	}
	e.checkProxied(list, policyMaps, wanted)
	for _, svc := range e.services {
		own, ok := svc.options[policyMaps]
		serves := func(t table) bool { return t.serves(policyMaps) }
		if ok && (svc.command == "smtp" || svc.command == "lmtp") && !slices.ContainsFunc(tables(own), serves) {
			name, _, _ := strings.Cut(svc.id, "/")
			e.found("service-without-policies", fmt.Sprintf("%s: service %s has -o smtp_tls_policy_maps=%s",
				e.masterCF(), name, own),
				e.edit("-PX", svc.id+"/smtp_tls_policy_maps"))
		}
	}
}

// wantsTLSRPT reports whether Postfix has a use for the MTA-STS attributes: for TLSRPT reports, or because it checks
// the names of MX hosts against them (smtp_tls_enforce_sts_mx_patterns, since 3.10.5).
func (e *exam) wantsTLSRPT() bool {
	const lastUnchecked = 4
	return e.version.since(10) && (e.params["smtp_tlsrpt_enable"] == "yes" ||
		!e.version.between(10, lastUnchecked) && e.params["smtp_tls_enforce_sts_mx_patterns"] != "no")
}

func (e *exam) checkProxied(list []table, parameter, wanted string) {
	for _, t := range list {
		if t.proxied && t.serves(parameter) {
			e.found("map-through-proxy", t.text, wanted)
		}
	}
}

// checkUnknownMaps finds map names in main.cf and master.cf that policyd does not serve, at an endpoint of policyd.
func (e *exam) checkUnknownMaps() {
	examine := func(file, parameter, value string) {
		for _, t := range tables(value) {
			if e.unknown(t) {
				use := cmp.Or(lookup.NearestMap(t.name), e.mapFor(parameter))
				e.found("map-unknown", parameter+" has "+t.text,
					"# in "+file+": "+strings.TrimSuffix(t.text, t.name)+use, "policyd postfix-config --commands | sh")
			}
		}
	}
	for _, parameter := range []string{policyMaps, transportMaps} {
		examine(e.mainCF(), parameter, e.params[parameter])
		for _, svc := range e.services {
			examine(e.masterCF(), parameter, svc.options[parameter])
		}
	}
}

// unknown reports whether a table is policyd's and has a map name that policyd does not serve.
func (e *exam) unknown(t table) bool {
	here := func(endpoint string) bool { return e.dialable(endpoint) == e.dialable(t.endpoint) }
	return t.endpoint != "" && lookup.CanonicalMap(t.name) == "" && slices.ContainsFunc(e.endpoints, here)
}

// checkTransportMaps examines transport_maps: whether policyd is asked, and whether a guard keeps the domains of this
// site from it.
func (e *exam) checkTransportMaps() {
	list, at := e.ours(transportMaps)
	wanted := e.set(transportMaps, e.wanted(transportMaps))
	if !e.inlineTables() {
		wanted = "policyd postfix-config --commands | sh"
	}
	if at < 0 {
		switch {
		case slices.ContainsFunc(list, e.unknown): // see checkUnknownMaps
		case !e.route:
			e.found("transport-map-missing", "transport_maps does not ask policyd, and port26.mode is off")
		default:
			e.found("transport-map-missing", "transport_maps does not ask policyd", wanted)
		}
		return
	}
	e.found("transport-map-present", "transport_maps has "+list[at].text)
	e.checkProxied(list, transportMaps, wanted)
	without := e.set(transportMaps, joined(slices.DeleteFunc(tables(e.raw[transportMaps]), func(t table) bool {
		return t.serves(transportMaps)
	})))
	if !e.route {
		e.found("transport-map-unused", "port26.mode is off", e.setting("port26", `mode = "probe"`), "# or:", without)
	}
	guard := slices.IndexFunc(list, table.isPattern)
	switch {
	case guard < 0:
		e.found("guard-missing", "no regexp: table before the socketmap in transport_maps", wanted)
	case guard > at:
		e.found("guard-after", list[guard].text+" comes after the socketmap in transport_maps", wanted)
	default:
		e.found("guard-present", "transport_maps asks "+list[guard].text+" first")
	}
	for _, parameter := range []string{"relayhost", "sender_dependent_relayhost_maps", "default_transport"} {
		value := e.params[parameter]
		if value != "" && (parameter != "default_transport" || value != "smtp") {
			e.found("relayhost-bypassed", parameter+" = "+value, "# if all mail must go that way:", without)
		}
	}
}

// checkService examines the service for implicit TLS in master.cf.
func (e *exam) checkService() {
	want := e.wantedService()
	name, svc := "service "+e.transport, e.service(want.Service)
	if svc == nil || svc.command != "smtp" {
		if _, at := e.ours(transportMaps); at >= 0 {
			e.found("service-missing", "no "+name+" of smtp(8) in "+e.masterCF(), e.serviceCommands(want)...)
		}
		return
	}
	sound := true
	for _, r := range serviceRules(e.transport) {
		if value := e.value(svc, r.Name); r.wrong != "" && !r.accepts(value) {
			sound = false
			e.found(r.wrong, name+": "+is(r.Name, value), e.edit("-P", svc.id+"/"+r.Name+"="+r.Value))
		}
	}
	if svc.chroot != e.smtpChrooted() {
		e.found("service-other-chroot", name+" and service smtp differ in the chroot column",
			e.edit("-F", svc.id+"/chroot="+e.chrootColumn()))
	}
	if sound {
		e.found("service-present", name+": wrapper mode, level "+e.value(svc, "smtp_tls_security_level"))
	}
}
