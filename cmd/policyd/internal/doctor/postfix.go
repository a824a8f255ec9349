package doctor

import (
	"slices"
	"strings"
)

// shown is how a finding shows a parameter with its value.
func shown(name, value string) string {
	if value == "" {
		return name + " is empty"
	}
	return name + " = " + value
}

func (e *exam) checkVersion() {
	switch what := "Postfix " + e.version; {
	case !e.params.Since(4, 0):
		e.found("postfix-too-old", what, "# upgrade to Postfix 3.4 or later")
	case !e.params.Since(5, 0):
		e.found("postfix-no-host-list", what, e.setting("port26", `mode = "off"`),
			"# or upgrade to Postfix 3.5 or later")
	default:
		e.found("postfix-version", what+" supports TLS policies and every kind of route")
	}
}

// checkMain examines the parameters that policies depend on.
func (e *exam) checkMain() {
	for _, r := range slices.Concat(writtenRules(), defaultRules()) {
		value, what, change := e.smtpValue(r)
		forDANE := r.wrong == "dnssec-lookups-off" || r.wrong == "dane-insecure-mx"
		switch {
		case forDANE && !e.Settings.Policy.DANE: // it does not matter
		case !r.accepts(value):
			e.found(r.wrong, what, change)
		case r.Name == "smtp_tls_security_level":
			e.found("smtp-level", what)
		case r.Name == "smtp_dns_support_level":
			e.found("dnssec-lookups", what)
		}
	}
}

// checkTables examines the tables of policyd in a parameter. It returns the tables of main.cf, and the index of
// policyd's table, or -1. present and missing are codes; wanted is the command that corrects main.cf.
func (e *exam) checkTables(parameter, present, missing, wanted string) (list []table, at int) {
	list, at = e.asking(parameter)
	switch {
	case at >= 0:
		e.found(present, parameter+" has "+list[at].text)
	case !slices.ContainsFunc(list, table.unknown) && (parameter == policyMaps || e.routes()): // unknown asks policyd
		e.found(missing, shown(parameter, e.params[parameter]), wanted)
	}
	for _, t := range list {
		e.checkTable(parameter, t, wanted)
	}
	e.checkServiceTables(parameter)
	return list, at
}

// checkTable examines one table of policyd.
func (e *exam) checkTable(parameter string, t table, change string) {
	switch {
	case t.unknown():
		e.found("map-unknown", parameter+" has "+t.text, change)
	case strings.HasPrefix(t.text, "proxy:") && t.ours:
		e.found("map-through-proxy", t.text, change)
	}
}

func (e *exam) checkPolicyMaps() {
	wanted := e.correction(policyMaps)
	list, at := e.checkTables(policyMaps, "tls-map-present", "tls-map-missing", wanted)
	if at < 0 {
		return
	}
	if at > 0 {
		e.found("tls-map-shadowed", policyMaps+" asks "+list[0].text+" first")
	}
	// Postfix uses the MTA-STS attributes in TLSRPT reports, and since 3.10.5 also checks the names of MX hosts against
	// them.
	useful := e.params["smtp_tlsrpt_enable"] == "yes" ||
		e.params.Since(10, 5) && e.params["smtp_tls_enforce_sts_mx_patterns"] != "no"
	switch what := list[at].text + " with Postfix " + e.version; {
	case list[at].serves == "tls-policy-tlsrpt" && !e.params.Since(10, 0):
		e.found("tls-map-tlsrpt-too-early", what, wanted)
	case list[at].serves == "tls-policy" && e.params.Since(10, 0) && useful:
		e.found("tls-map-no-tlsrpt", what, wanted)
	}
	for _, service := range e.params.Overriding(policyMaps) {
		own := e.params.Of(service, policyMaps)
		if slices.Contains([]string{"smtp", "lmtp"}, e.params.Program(service)) &&
			!slices.ContainsFunc(e.tables(policyMaps, own), func(t table) bool { return t.ours }) {
			e.found("service-without-policies", e.masterCF()+", service "+service+": "+shown(policyMaps, own),
				e.edit("-PX", service+"/"+policyMaps))
		}
	}
}

// checkTransportMaps examines transport_maps: whether policyd is asked, and whether a guard keeps the domains of this
// site from it.
func (e *exam) checkTransportMaps() {
	wanted := e.correction(transportMaps)
	list, at := e.checkTables(transportMaps, "transport-map-present", "transport-map-missing", wanted)
	if at < 0 {
		return
	}
	without := e.set(transportMaps, e.without(transportMaps))
	switch guard := slices.IndexFunc(list, func(t table) bool { return t.pattern }); {
	case guard < 0:
		e.found("guard-missing", "no regexp: table before the socketmap in transport_maps", wanted)
	case guard > at:
		e.found("guard-after", list[guard].text+" comes after the socketmap in transport_maps", wanted)
	default:
		e.found("guard-present", "transport_maps asks "+list[guard].text+" first")
	}
	for _, parameter := range []string{"relayhost", "sender_dependent_relayhost_maps", "default_transport"} {
		if value := e.params[parameter]; value != "" && (parameter != "default_transport" || value != "smtp") {
			e.found("relayhost-bypassed", parameter+" = "+value, "# if all mail must go that way:", without)
		}
	}
}

// checkService examines the service for implicit TLS in master.cf.
func (e *exam) checkService() {
	service, name := e.service(), "service "+e.Settings.Port26.Transport
	if e.params.Program(service) != "smtp" {
		if _, at := e.asking(transportMaps); at >= 0 {
			e.found("service-missing", "no "+name+" of smtp(8) in "+e.masterCF(), e.serviceCommands()...)
		}
		return
	}
	sound := true
	for _, r := range serviceRules(e.Settings.Port26.Transport) {
		if value := e.params.Of(service, r.Name); !r.accepts(value) {
			sound = false
			e.found(r.wrong, name+": "+shown(r.Name, value), e.edit("-P", service+"/"+r.Name+"="+r.Value))
		}
	}
	if sound {
		e.found("service-present", name+": wrapper mode, level "+e.params.Of(service, "smtp_tls_security_level"))
	}
}

// checkTLSRequired examines whether a message with the header TLS-Required: no (RFC 8689) breaks implicit TLS.
func (e *exam) checkTLSRequired() {
	header := e.params["tls_required_enable"] == "yes"
	if _, at := e.asking(transportMaps); at >= 0 && header && e.params.Since(10, 0) && !e.params.Since(10, 6) {
		e.found("tls-required-breaks-port26", "Postfix "+e.version+" with the service "+e.Settings.Port26.Transport,
			e.set("tls_required_enable", "no"), "# or upgrade Postfix to 3.10.6 or later")
	}
}
