package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// is shows a parameter with its value.
func is(name, value string) string {
	if value == "" {
		return name + " is empty"
	}
	return name + " = " + value
}

// setting is the change of a setting of policyd: a comment, because it has to be edited in a file.
func (e *exam) setting(table, line string) string {
	return "# in " + e.Settings.Path + ", [" + table + "]: " + line
}

// version examines the version of Postfix.
func (e *exam) version() {
	v := e.setup.version
	switch {
	case !v.since(4):
		e.found("postfix-too-old", "Postfix "+v.text, "# upgrade to Postfix 3.4 or later")
	case !v.since(5):
		e.found("postfix-no-host-list", "Postfix "+v.text, e.setting("port26", `mode = "off"`), "# or upgrade to Postfix 3.5 or later")
	case v.since(10):
		e.found("postfix-version", "Postfix "+v.text+" supports TLS policies, TLSRPT attributes, and every kind of route")
	default:
		e.found("postfix-version", "Postfix "+v.text+" supports TLS policies and every kind of route, but not TLSRPT attributes")
	}
}

// level examines the parameters of main.cf that policies depend on.
func (e *exam) level() {
	s := e.setup
	set := func(line string) string { return s.edit("-e", line) }
	if level := s.params["smtp_tls_security_level"]; level == "" && s.params["smtp_use_tls"] != "yes" && s.params["smtp_enforce_tls"] != "yes" || level == "none" {
		e.found("smtp-level-none", is("smtp_tls_security_level", level), set("smtp_tls_security_level = may"))
	} else {
		e.found("smtp-level", is("smtp_tls_security_level", level))
	}
	if e.Settings.Policy.DANE {
		e.dnssec(set)
	}
	if s.params["smtp_tls_wrappermode"] == "yes" {
		e.found("global-wrappermode", "smtp_tls_wrappermode = yes", set("smtp_tls_wrappermode = no"))
	}
	if limit := s.params["smtp_mx_address_limit"]; limit != "" && limit != "0" {
		e.found("mx-address-limit", is("smtp_mx_address_limit", limit), set("smtp_mx_address_limit = 0"))
	}
	if s.params["smtp_tls_loglevel"] == "0" {
		e.found("tls-log-off", "smtp_tls_loglevel = 0", set("smtp_tls_loglevel = 1"))
	}
}

// tlsRequired examines what the header "TLS-Required: no" of a message (RFC 8689) does to the policies.
func (e *exam) tlsRequired() {
	s := e.setup
	if !s.version.since(10) || s.params["tls_required_enable"] == "no" {
		return
	}
	off := s.edit("-e", "tls_required_enable = no")
	const lastBroken = 5
	if s.version.between(10, lastBroken) && len(policydTables(tables(s.params["transport_maps"]), []string{"transport"})) > 0 {
		e.found("tls-required-breaks-port26", "Postfix "+s.version.text+" with the service "+e.Settings.Port26.Transport+" and tls_required_enable = yes",
			off, "# or upgrade Postfix to 3.10.6 or later")
		return
	}
	e.found("tls-required-header", "tls_required_enable = yes", "# if you do not want that:", off)
}

func (e *exam) dnssec(set func(string) string) {
	s := e.setup
	support, lookup := s.params["smtp_dns_support_level"], s.params["smtp_host_lookup"]
	switch {
	case support != "dnssec" || s.params["disable_dns_lookups"] == "yes":
		e.found("dnssec-lookups-off", is("smtp_dns_support_level", support), set("smtp_dns_support_level = dnssec"))
	case lookup != "dns":
		e.found("dnssec-lookups-off", is("smtp_host_lookup", lookup), set("smtp_host_lookup = dns"))
	case s.params["ignore_mx_lookup_error"] == "yes":
		e.found("dnssec-lookups-off", "ignore_mx_lookup_error = yes", set("ignore_mx_lookup_error = no"))
	case s.params["smtp_dns_resolver_options"] != "":
		e.found("dnssec-lookups-off", is("smtp_dns_resolver_options", s.params["smtp_dns_resolver_options"]), set("smtp_dns_resolver_options ="))
	default:
		e.found("dnssec-lookups", "smtp_dns_support_level = dnssec")
	}
	if p := s.params["smtp_tls_dane_insecure_mx_policy"]; p != "dane" {
		e.found("dane-insecure-mx", is("smtp_tls_dane_insecure_mx_policy", p), set("smtp_tls_dane_insecure_mx_policy = dane"))
	}
}

// policyMaps examines smtp_tls_policy_maps, of main.cf and of the services that set it themselves.
func (e *exam) policyMaps() {
	s := e.setup
	list := tables(s.params["smtp_tls_policy_maps"])
	at := policydTables(list, tlsNames())
	wanted := s.edit("-e", "smtp_tls_policy_maps = "+strings.Join(e.draft.policyMaps(), ", "))
	switch {
	case len(at) == 0 && slices.ContainsFunc(list, e.unknown):
		// Postfix asks policyd, and for a wrong map: see unknownMaps.
	case len(at) == 0:
		e.found("tls-map-missing", is("smtp_tls_policy_maps", s.params["smtp_tls_policy_maps"]), wanted)
	default:
		first := list[at[0]]
		e.found("tls-map-present", "smtp_tls_policy_maps has "+first.text)
		if at[0] > 0 {
			e.found("tls-map-shadowed", "smtp_tls_policy_maps asks "+list[0].text+" first")
		}
		switch has := foldContains(tlsrptNames(), first.name); {
		case has && !s.version.since(10):
			e.found("tls-map-tlsrpt-too-early", first.text+" with Postfix "+s.version.text, wanted)
		case !has && e.wantsTLSRPT():
			e.found("tls-map-no-tlsrpt", first.text+" with Postfix "+s.version.text, wanted)
		}
		e.proxied(list, at, wanted)
	}
	for _, svc := range s.services {
		own, ok := svc.options["smtp_tls_policy_maps"]
		if ok && (svc.command == "smtp" || svc.command == "lmtp") && len(policydTables(tables(own), tlsNames())) == 0 && len(at) > 0 {
			e.found("service-without-policies", fmt.Sprintf("%s: service %s has -o smtp_tls_policy_maps=%s", s.masterCF(), svc.name, own),
				s.edit("-PX", svc.name+"/"+svc.kind+"/smtp_tls_policy_maps"))
		}
	}
}

// wantsTLSRPT reports whether Postfix has a use for the MTA-STS attributes: for TLSRPT reports, or because it checks the names
// of MX hosts against them (smtp_tls_enforce_sts_mx_patterns, since 3.10.5).
func (e *exam) wantsTLSRPT() bool {
	s := e.setup
	const firstCheck = 4 // the last one that does not check
	return s.version.since(10) && (s.params["smtp_tlsrpt_enable"] == "yes" ||
		!s.version.between(10, firstCheck) && s.params["smtp_tls_enforce_sts_mx_patterns"] != "no")
}

func (e *exam) proxied(list []table, at []int, wanted string) {
	for _, i := range at {
		if list[i].proxied {
			e.found("map-through-proxy", list[i].text, wanted)
		}
	}
}

// transportMaps examines transport_maps: whether policyd is asked, and whether a guard keeps the domains of this site from it.
func (e *exam) transportMaps() {
	s := e.setup
	list := tables(s.params["transport_maps"])
	at := policydTables(list, []string{"transport"})
	off := e.Settings.Port26.Mode == "off"
	wanted := s.edit("-e", "transport_maps = "+strings.Join(e.draft.transportMaps(), ", "))
	if !inlineTables(s.version) {
		wanted = "policyd postfix-config --commands | sh"
	}
	if len(at) == 0 && slices.ContainsFunc(list, e.unknown) {
		return // see unknownMaps
	}
	if len(at) == 0 {
		if off {
			e.found("transport-map-missing", "transport_maps does not ask policyd, and port26.mode is off")
		} else {
			e.found("transport-map-missing", "transport_maps does not ask policyd", wanted)
		}
		return
	}
	e.found("transport-map-present", "transport_maps has "+list[at[0]].text)
	e.proxied(list, at, wanted)
	without := s.edit("-e", "transport_maps = "+strings.Join(withoutOurs(s.raw["transport_maps"]), ", "))
	if off {
		e.found("transport-map-unused", "port26.mode is off", e.setting("port26", `mode = "probe"`), "# or:", without)
	}
	guard := slices.IndexFunc(list, table.isPattern)
	switch {
	case guard < 0:
		e.found("guard-missing", "no regexp: table before the socketmap in transport_maps", wanted)
	case guard > at[0]:
		e.found("guard-after", list[guard].text+" comes after the socketmap in transport_maps", wanted)
	default:
		e.found("guard-present", "transport_maps asks "+list[guard].text+" first")
	}
	for _, parameter := range []string{"relayhost", "sender_dependent_relayhost_maps", "default_transport"} {
		value := s.params[parameter]
		if value != "" && (parameter != "default_transport" || value != "smtp") {
			e.found("relayhost-bypassed", parameter+" = "+value, "# if all mail must go that way:", without)
		}
	}
}

// withoutOurs returns the tables of an unexpanded transport_maps without those of policyd.
func withoutOurs(raw string) []string {
	kept := []string{}
	for _, t := range tables(raw) {
		if !t.isPolicyd([]string{"transport"}) {
			kept = append(kept, t.text)
		}
	}
	return kept
}

// service examines the service for implicit TLS in master.cf.
func (e *exam) service() {
	s, name := e.setup, e.Settings.Port26.Transport
	used := len(policydTables(tables(s.params["transport_maps"]), []string{"transport"})) > 0
	svc := s.service(name, "unix")
	if svc == nil || svc.command != "smtp" {
		if used {
			e.found("service-missing", "no service "+name+" of smtp(8) in "+s.masterCF(), e.draft.serviceCommands(serviceFor(name, s.smtpChrooted()))...)
		}
		return
	}
	sound := true
	bad := func(code, parameter, change string) {
		sound = false
		e.found(code, "service "+name+": "+is(parameter, s.value(svc, parameter)), s.edit("-P", name+"/unix/"+parameter+"="+change))
	}
	if s.value(svc, "smtp_tls_wrappermode") != "yes" {
		bad("service-no-wrappermode", "smtp_tls_wrappermode", "yes")
	}
	if !slices.Contains(closedLevels(), s.value(svc, "smtp_tls_security_level")) {
		bad("service-fails-open", "smtp_tls_security_level", "secure")
	}
	if s.value(svc, "smtp_fallback_relay") != "" {
		bad("service-fallback-relay", "smtp_fallback_relay", "")
	}
	if svc.chroot != s.smtpChrooted() {
		column := strings.Fields(serviceFor(name, s.smtpChrooted()).Definition)[4]
		e.found("service-other-chroot", "service "+name+" and service smtp differ in the chroot column", s.edit("-F", name+"/unix/chroot="+column))
	}
	if sound {
		e.found("service-present", "service "+name+": wrapper mode, level "+s.value(svc, "smtp_tls_security_level"))
	}
}
