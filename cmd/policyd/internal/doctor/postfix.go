package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// is says what a parameter is.
func is(name, value string) string {
	if value == "" {
		return name + " is empty"
	}
	return name + " = " + value
}

// version says what follows from the version of Postfix.
func (e *exam) version() {
	v := e.setup.version
	switch {
	case !v.since(4):
		e.found("postfix-too-old", "Postfix "+v.text, "an upgrade to Postfix 3.4 or later")
	case !v.since(5):
		e.found("postfix-no-host-list", "Postfix "+v.text, e.Settings.Path+`, [port26]: mode = "off", or an upgrade to Postfix 3.5 or later`)
	case v.since(10):
		e.found("postfix-version", "Postfix "+v.text+": TLS policies, with TLSRPT if you like, and every kind of route")
	default:
		e.found("postfix-version", "Postfix "+v.text+": TLS policies, without TLSRPT, and every kind of route")
	}
}

// level examines the parameters of main.cf that policies depend on.
func (e *exam) level() {
	s := e.setup
	main := func(line string) string { return s.mainCF() + ": " + line }
	if level := s.params["smtp_tls_security_level"]; level == "" && s.params["smtp_use_tls"] != "yes" && s.params["smtp_enforce_tls"] != "yes" || level == "none" {
		e.found("smtp-level-none", is("smtp_tls_security_level", level), main("smtp_tls_security_level = may"))
	} else {
		e.found("smtp-level", is("smtp_tls_security_level", level))
	}
	if e.Settings.Policy.DANE {
		e.dnssec(main)
	}
	if s.params["smtp_tls_wrappermode"] == "yes" {
		e.found("global-wrappermode", "smtp_tls_wrappermode = yes", main("smtp_tls_wrappermode = no"))
	}
	if s.params["smtp_tls_loglevel"] == "0" {
		e.found("tls-log-off", "smtp_tls_loglevel = 0", main("smtp_tls_loglevel = 1"))
	}
}

func (e *exam) dnssec(main func(string) string) {
	s := e.setup
	support, lookup := s.params["smtp_dns_support_level"], s.params["smtp_host_lookup"]
	switch {
	case support != "dnssec" || s.params["disable_dns_lookups"] == "yes":
		e.found("dnssec-lookups-off", is("smtp_dns_support_level", support), main("smtp_dns_support_level = dnssec"))
	case lookup != "dns":
		e.found("dnssec-lookups-off", is("smtp_host_lookup", lookup), main("smtp_host_lookup = dns"))
	case s.params["ignore_mx_lookup_error"] == "yes":
		e.found("dnssec-lookups-off", "ignore_mx_lookup_error = yes", main("ignore_mx_lookup_error = no"))
	case s.params["smtp_dns_resolver_options"] != "":
		e.found("dnssec-lookups-off", is("smtp_dns_resolver_options", s.params["smtp_dns_resolver_options"]), main("smtp_dns_resolver_options ="))
	default:
		e.found("dnssec-lookups", "smtp_dns_support_level = dnssec")
	}
	if p := s.params["smtp_tls_dane_insecure_mx_policy"]; p != "dane" {
		e.found("dane-insecure-mx", is("smtp_tls_dane_insecure_mx_policy", p), main("smtp_tls_dane_insecure_mx_policy = dane"))
	}
}

// policyMaps examines smtp_tls_policy_maps, of main.cf and of the services that have one of their own.
func (e *exam) policyMaps() {
	s := e.setup
	e.unknownMaps()
	list := tables(s.params["smtp_tls_policy_maps"])
	at := policydTables(list, tlsNames())
	name := "tls-policy"
	tlsrpt := s.version.since(10) && s.params["smtp_tlsrpt_enable"] == "yes"
	if tlsrpt {
		name = "tls-policy-tlsrpt"
	}
	wanted := s.mainCF() + ": smtp_tls_policy_maps = " + e.endpoint().table(name)
	if len(at) == 0 {
		e.found("tls-map-missing", is("smtp_tls_policy_maps", s.params["smtp_tls_policy_maps"]), wanted)
	} else {
		e.found("tls-map-present", "smtp_tls_policy_maps has "+list[at[0]].text)
		if at[0] > 0 {
			e.found("tls-map-shadowed", "smtp_tls_policy_maps asks "+list[0].text+" first", "nothing, if that table holds exceptions of your own; otherwise "+wanted)
		}
		first := list[at[0]]
		switch has := foldContains(tlsrptNames(), first.name); {
		case has && !s.version.since(10):
			e.found("tls-map-tlsrpt-too-early", first.text+" with Postfix "+s.version.text, s.mainCF()+": smtp_tls_policy_maps = socketmap:"+first.endpoint+":tls-policy")
		case !has && tlsrpt:
			e.found("tls-map-no-tlsrpt", first.text+" with smtp_tlsrpt_enable = yes", s.mainCF()+": smtp_tls_policy_maps = socketmap:"+first.endpoint+":tls-policy-tlsrpt")
		}
		e.proxied(list, at)
	}
	for _, svc := range s.services {
		own, ok := svc.options["smtp_tls_policy_maps"]
		if ok && (svc.command == "smtp" || svc.command == "lmtp") && len(policydTables(tables(own), tlsNames())) == 0 && len(at) > 0 {
			e.found("service-without-policies", fmt.Sprintf("%s: service %s has -o smtp_tls_policy_maps=%s", s.masterCF(), svc.name, own), s.masterCF()+": take that option out")
		}
	}
}

func (e *exam) proxied(list []table, at []int) {
	for _, i := range at {
		if list[i].proxied {
			e.found("map-through-proxy", list[i].text, e.setup.mainCF()+": "+strings.TrimPrefix(list[i].text, "proxy:"))
		}
	}
}

// transportMaps examines transport_maps: whether policyd is asked, and whether domains of this site are kept from it.
func (e *exam) transportMaps() {
	s := e.setup
	list := tables(s.params["transport_maps"])
	at := policydTables(list, []string{"transport"})
	off := e.Settings.Port26.Mode == "off"
	if len(at) == 0 {
		if off {
			e.found("transport-map-missing", "transport_maps does not ask policyd, and port26.mode is off")
		} else {
			e.found("transport-map-missing", "transport_maps does not ask policyd", s.mainCF()+": "+guarded(e.endpoint(), s.version))
		}
		return
	}
	e.found("transport-map-present", "transport_maps has "+list[at[0]].text)
	e.proxied(list, at)
	if off {
		e.found("transport-map-unused", "port26.mode is off", e.Settings.Path+`, [port26]: mode = "probe"`, "or "+s.mainCF()+": take "+list[at[0]].text+" out of transport_maps")
	}
	guard := slices.IndexFunc(list, table.isPattern)
	switch {
	case guard < 0:
		e.found("guard-missing", "no regexp: table before the socketmap in transport_maps", s.mainCF()+": "+guarded(e.endpoint(), s.version))
	case guard > at[0]:
		e.found("guard-after", list[guard].text+" comes after the socketmap in transport_maps", s.mainCF()+": transport_maps = "+list[guard].text+", "+list[at[0]].text)
	default:
		e.found("guard-present", "transport_maps asks "+list[guard].text+" first")
	}
	for _, parameter := range []string{"relayhost", "sender_dependent_relayhost_maps", "default_transport"} {
		value := s.params[parameter]
		if value != "" && (parameter != "default_transport" || value != "smtp") {
			e.found("relayhost-bypassed", parameter+" = "+value, s.mainCF()+": take "+list[at[0]].text+" out of transport_maps, if all mail is to go that way")
		}
	}
}

// service examines the service for implicit TLS in master.cf.
func (e *exam) service() {
	s, name := e.setup, e.Settings.Port26.Transport
	used := len(policydTables(tables(s.params["transport_maps"]), []string{"transport"})) > 0
	svc := s.service(name, "unix")
	if svc == nil || svc.command != "smtp" {
		if used {
			e.found("service-missing", "no service "+name+" of smtp(8) in "+s.masterCF(), append([]string{"add to " + s.masterCF() + ":"}, serviceFor(name, s.smtpChrooted()).lines()...)...)
		}
		return
	}
	option := func(line string) string { return s.masterCF() + ", service " + name + ": -o " + line }
	sound := true
	bad := func(code, what, change string) {
		sound = false
		e.found(code, what, change)
	}
	if s.value(svc, "smtp_tls_wrappermode") != "yes" {
		bad("service-no-wrappermode", "service "+name+": "+is("smtp_tls_wrappermode", s.value(svc, "smtp_tls_wrappermode")), option("smtp_tls_wrappermode=yes"))
	}
	if level := s.value(svc, "smtp_tls_security_level"); !slices.Contains(closedLevels(), level) {
		bad("service-fails-open", "service "+name+": "+is("smtp_tls_security_level", level), option("smtp_tls_security_level=secure"))
	}
	if relay := s.value(svc, "smtp_fallback_relay"); relay != "" {
		bad("service-fallback-relay", "service "+name+": smtp_fallback_relay = "+relay, option("smtp_fallback_relay="))
	}
	if svc.chroot != s.smtpChrooted() {
		e.found("service-other-chroot", "service "+name+" and service smtp differ in the chroot column", s.masterCF()+": the same fifth column in both")
	}
	if sound {
		e.found("service-present", "service "+name+": wrapper mode, level "+s.value(svc, "smtp_tls_security_level"))
	}
}
