package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
)

// rule is a parameter that policies depend on, with the value that postfix-config writes where the present one is
// wrong.
type rule struct {
	Parameter
	// accepted are the right values, nil for all except those that are rejected.
	accepted, rejected []string
	// wrong and right are the codes of findings, "" for none.
	wrong, right string
	// unwritten is set if Postfix's default is right, so that postfix-config does not write it.
	unwritten bool
	// dane is set if the parameter matters for DANE only.
	dane bool
}

func (r rule) accepts(value string) bool {
	return (r.accepted == nil || slices.Contains(r.accepted, value)) && !slices.Contains(r.rejected, value)
}

// mainRules are the rules for main.cf, except those for tables and root certificates.
func mainRules() []rule {
	const lookups, off = "dnssec-lookups", "dnssec-lookups-off"
	return []rule{
		{Parameter: Parameter{"smtp_tls_security_level", "may"}, rejected: []string{"", "none"},
			wrong: "smtp-level-none", right: "smtp-level"},
		{Parameter: Parameter{"disable_dns_lookups", "no"}, rejected: []string{"yes"}, wrong: off, dane: true,
			unwritten: true},
		{Parameter: Parameter{"smtp_host_lookup", "dns"}, accepted: []string{"dns"}, wrong: off, dane: true,
			unwritten: true},
		{Parameter: Parameter{"ignore_mx_lookup_error", "no"}, rejected: []string{"yes"}, wrong: off, dane: true,
			unwritten: true},
		{Parameter: Parameter{"smtp_dns_resolver_options", ""}, accepted: []string{""}, wrong: off, dane: true,
			unwritten: true},
		{Parameter: Parameter{"smtp_dns_support_level", "dnssec"}, accepted: []string{"dnssec"},
			wrong: off, right: lookups, dane: true},
		{Parameter: Parameter{"smtp_tls_dane_insecure_mx_policy", "dane"}, accepted: []string{"dane"},
			wrong: "dane-insecure-mx", dane: true},
		{Parameter: Parameter{"smtp_tls_wrappermode", "no"}, rejected: []string{"yes"}, wrong: "global-wrappermode",
			unwritten: true},
		{Parameter: Parameter{"smtp_mx_address_limit", "0"}, accepted: []string{"", "0"}, wrong: "mx-address-limit"},
		{Parameter: Parameter{"smtp_tls_loglevel", "1"}, rejected: []string{"0"}, wrong: "tls-log-off"},
	}
}

// serviceRules are the rules for the options of the service for implicit TLS.
func serviceRules(name string) []rule {
	return []rule{
		{Parameter: Parameter{"syslog_name", "postfix/" + name}},
		{Parameter: Parameter{"smtp_tls_wrappermode", "yes"}, accepted: []string{"yes"},
			wrong: "service-no-wrappermode"},
		// Under these levels the service never sends over an unverified connection.
		{Parameter: Parameter{"smtp_tls_security_level", "secure"},
			accepted: []string{"secure", "dane-only", "fingerprint"},
			wrong:    "service-fails-open"},
		{Parameter: Parameter{"smtp_connect_timeout", "10s"}},
		{Parameter: Parameter{"smtp_starttls_timeout", "30s"}},
		{Parameter: Parameter{"smtp_fallback_relay", ""}, accepted: []string{""}, wrong: "service-fallback-relay"},
	}
}

// plan is the configuration that Postfix needs for policyd, and the present one.
type plan struct {
	*setup
	route     bool     // policyd may return routes
	transport string   // the service for implicit TLS
	own       []string // patterns of this site's domains
	// endpoint is where Postfix finds policyd, as in socketmap:ENDPOINT:NAME. endpoints are those of all listeners: any
	// of them may be in use already.
	endpoint  string
	endpoints []string
}

// newPlan returns the plan for a Postfix and the listeners of policyd.
func newPlan(ctx context.Context, o Options, s *setup, listeners []string) plan {
	p := plan{
		setup: s, route: o.Settings.Port26.Mode != "off", transport: o.Settings.Port26.Transport,
		own: []string{`/@localhost(\.localdomain)?$/`}, endpoint: endpointOf(listeners, s.queue),
	}
	p.endpoints = []string{p.endpoint}
	for _, l := range listeners {
		p.endpoints = append(p.endpoints, endpointOf([]string{l}, s.queue))
	}
	if !s.installed() {
		return p
	}
	_, domains, _ := ownDomains(ctx, o) // those that can be read
	for _, d := range domains {
		if !slices.Contains([]string{"localhost", "localhost.localdomain", s.params["myhostname"]}, d) {
			p.own = append(p.own, pattern(d))
		}
	}
	return p
}

// planFor returns the plan for the installed Postfix, or for the version in the options.
func planFor(ctx context.Context, o Options) (plan, error) {
	s := defaultSetup()
	commands, err := postfix.Find(o.Postconf, o.ConfigDirectory)
	if err != nil && o.Version == "" {
		return plan{}, errors.New(
			"no Postfix is installed here: name the version that the lines are for, as in --postfix-version 3.7")
	}
	if err == nil {
		installed, err := readSetup(ctx, commands)
		switch {
		case err == nil:
			s = installed
		case o.Version == "":
			return plan{}, err
		}
	}
	if o.Version != "" {
		if s.version, err = parseVersion(o.Version); err != nil {
			return plan{}, err
		}
	}
	st, _ := o.askDaemon(ctx)
	p := newPlan(ctx, o, s, o.listeners(st))
	if !s.version.since(4) {
		return p, fmt.Errorf("this is %s: %w", s.version.text, ErrTooOld)
	}
	return p, nil
}

// ownDomains returns the parameters with the lists of domains that Postfix receives, and the domains that they name.
func ownDomains(ctx context.Context, o Options) (lists, domains []string, err error) {
	site := o.Settings.Site(nil, quiet())
	site.Postconf, site.ConfigDirectory = o.Postconf, o.ConfigDirectory
	s, err := postfix.New(site)
	if err != nil {
		return nil, nil, err
	}
	_, _, err = s.Own(ctx, "policyd.invalid", dns.Effort{}) // reads the lists
	lists, domains = s.Lists()
	return lists, domains, err
}

// parameters returns the parameters of main.cf. A value that is right already is kept as it is written.
func (p plan) parameters() []Parameter {
	var list []Parameter
	for _, r := range mainRules() {
		if r.unwritten {
			continue
		}
		if r.accepts(p.params[r.Name]) {
			r.Value = cmp.Or(p.raw[r.Name], r.Value)
		}
		list = append(list, r.Parameter)
	}
	own := []Parameter{{policyMaps, p.wanted(policyMaps)}}
	if p.route {
		own = append(own, Parameter{transportMaps, p.wanted(transportMaps)})
	}
	if p.installed() && p.params["smtp_tls_CAfile"] == "" && p.params["smtp_tls_CApath"] == "" &&
		p.params["tls_append_default_CA"] != "yes" {
		list = append(list, Parameter{"smtp_tls_CAfile", systemRoots})
	}
	return slices.Insert(list, 1, own...)
}

// systemRoots is the file with root certificates on Debian and its derivatives.
const systemRoots = "/etc/ssl/certs/ca-certificates.crt"

// wanted returns the list of tables for a parameter. The tables of the site stay in front of policyd's, because they
// win. In transport_maps a table of patterns with the domains of this site comes first.
func (p plan) wanted(parameter string) string {
	list, at := p.corrected(parameter)
	guard := slices.IndexFunc(list, table.isPattern)
	if parameter == transportMaps && at >= 0 && guard > at { // Postfix must ask the patterns first
		list = slices.Delete(list, at, at+1)
		at = -1
	}
	if at < 0 {
		list = append(list, table{text: socketmapTable(p.endpoint, p.mapFor(parameter))})
	}
	if parameter == transportMaps && guard < 0 {
		list = slices.Insert(list, 0, table{text: p.guard()})
	}
	return joined(list)
}

func joined(list []table) string {
	var texts []string
	for _, t := range list {
		texts = append(texts, t.text)
	}
	return strings.Join(texts, ", ")
}

// mapFor returns the map of policyd for a parameter that fits the version.
func (p plan) mapFor(parameter string) string {
	switch {
	case parameter == transportMaps:
		return "transport"
	case p.version.since(10):
		return "tls-policy-tlsrpt"
	}
	return "tls-policy"
}

func socketmapTable(endpoint, name string) string { return "socketmap:" + endpoint + ":" + name }

// corrected returns the unexpanded tables of a parameter, and the index of policyd's, -1 for none. Policyd's entry gets
// the current endpoint and the name that fits the version. An entry hidden in a $name counts if it needs no change.
func (p plan) corrected(parameter string) (list []table, at int) {
	at = -1
	for _, t := range tables(p.raw[parameter]) {
		switch ours := p.isOurs(t, parameter); {
		case ours && at >= 0: // a second entry of policyd
		case ours:
			at = len(list)
			list = append(list, table{text: p.entry(t, parameter)})
		default:
			list = append(list, t)
		}
	}
	if at < 0 {
		for _, t := range tables(p.params[parameter]) {
			if p.isOurs(t, parameter) && p.entry(t, parameter) == t.text {
				at = slices.IndexFunc(list, func(raw table) bool { return strings.HasPrefix(raw.text, "$") })
			}
		}
	}
	return list, at
}

// isOurs reports whether a table is one of policyd's maps: everything at an endpoint of policyd, and policyd's names at
// any other endpoint, except those that postfix-tlspol uses as well.
func (p plan) isOurs(t table, parameter string) bool {
	if slices.Contains(p.endpoints, t.endpoint) {
		return true
	}
	return t.serves(parameter) && !strings.HasPrefix(strings.ToLower(t.name), "query")
}

// ours returns the tables of a parameter, and the index of the first that is a map of policyd, -1 for none.
func (p plan) ours(parameter string) (list []table, at int) {
	list = tables(p.params[parameter])
	return list, slices.IndexFunc(list, func(t table) bool { return t.serves(parameter) && p.isOurs(t, parameter) })
}

// entry returns the text that one of policyd's tables must have.
func (p plan) entry(t table, parameter string) string {
	at, name := p.endpoint, t.name
	if slices.Contains(p.endpoints, t.endpoint) {
		at = t.endpoint
	}
	if !t.serves(parameter) || parameter == policyMaps && t.hasTLSRPT() != p.version.since(10) {
		name = p.mapFor(parameter)
	}
	return socketmapTable(at, name)
}

// pattern matches the addresses of a domain, or with a dot in front those of all domains below it.
func pattern(domain string) string {
	if below, ok := strings.CutPrefix(domain, "."); ok {
		return `/@.*\.` + regexp.QuoteMeta(below) + `$/`
	}
	return `/@` + regexp.QuoteMeta(domain) + `$/`
}

// inlineTables reports whether the version has regexp:{…} (postconf(5)).
func (p plan) inlineTables() bool { return p.version.since(7) }

// guard returns the table with the domains of this site.
func (p plan) guard() string {
	if p.inlineTables() {
		return p.inlineGuard()
	}
	return p.guardFile()
}

func (p plan) guardFile() string   { return "regexp:" + p.directory + "/transport_own" }
func (p plan) inlineGuard() string { return "regexp:{ " + strings.Join(p.guardEntries(), " ") + " }" }

func (p plan) guardEntries() []string {
	entries := []string{`{/@$myhostname$$/  :}`}
	for _, own := range p.own {
		entries = append(entries, guardEntry(own))
	}
	return entries
}

// guardEntry returns a pattern as an entry of an inline table in main.cf, where a dollar sign must be doubled.
func guardEntry(pattern string) string { return "{" + strings.ReplaceAll(pattern, "$", "$$") + "  :}" }

// wantedService returns the service for implicit TLS.
func (p plan) wantedService() Service {
	s := Service{Service: p.transport + "/unix", Definition: p.transport + " unix - - " + p.chrootColumn() +
		" - - smtp"}
	for _, r := range serviceRules(p.transport) {
		s.Parameters = append(s.Parameters, r.Parameter)
	}
	return s
}

// chrootColumn returns the fifth column of master.cf for the service: that of smtp.
func (p plan) chrootColumn() string {
	if p.smtpChrooted() {
		return "y"
	}
	return "n"
}

// endpointOf returns the endpoint of the listener that fits best: one that chrooted processes can reach, otherwise the
// first.
func endpointOf(listeners []string, queue string) string {
	first := ""
	for _, l := range listeners {
		path, unix := strings.CutPrefix(l, "unix:")
		if !unix {
			return inet(l)
		}
		if inside, err := filepath.Rel(queue, path); err == nil && filepath.IsLocal(inside) {
			return "unix:" + inside
		}
		first = cmp.Or(first, l)
	}
	return cmp.Or(first, "inet:127.0.0.1:2526")
}

// inet is the endpoint of a TCP listener; one for all addresses is reached over loopback.
func inet(listener string) string {
	host, port, err := net.SplitHostPort(listener)
	if err != nil {
		return "inet:" + listener
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return "inet:" + net.JoinHostPort(host, port)
}
