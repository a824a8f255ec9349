package doctor

import (
	"cmp"
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
)

// rule is a parameter that policies depend on, with the value that postfix-config writes where the present one is
// wrong.
type rule struct {
	Parameter
	// right are the values that are right, nil for all.
	right []string
	// wrong is the code of the finding about another value.
	wrong string
}

func (r rule) accepts(value string) bool { return r.right == nil || slices.Contains(r.right, value) }

// writtenRules are the rules for parameters of main.cf that postfix-config writes.
func writtenRules() []rule {
	return []rule{
		{Parameter{"smtp_tls_security_level", "may"},
			[]string{"may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"}, "smtp-level-none"},
		{Parameter{"smtp_dns_support_level", "dnssec"}, []string{"dnssec"}, "dnssec-lookups-off"},
		{Parameter{"smtp_tls_dane_insecure_mx_policy", "dane"}, []string{"dane"}, "dane-insecure-mx"},
		{Parameter{"smtp_mx_address_limit", "0"}, []string{"", "0"}, "mx-address-limit"},
		{Parameter{"smtp_tls_loglevel", "1"}, []string{"1", "2", "3", "4"}, "tls-log-off"},
	}
}

// defaultRules are the rules for parameters of main.cf that postfix-config leaves as they are.
func defaultRules() []rule {
	const off = "dnssec-lookups-off"
	return []rule{
		{Parameter{"disable_dns_lookups", "no"}, []string{"", "no"}, off},
		{Parameter{"smtp_host_lookup", "dns"}, []string{"dns"}, off},
		{Parameter{"ignore_mx_lookup_error", "no"}, []string{"", "no"}, off},
		{Parameter{"smtp_dns_resolver_options", ""}, []string{""}, off},
		{Parameter{"smtp_tls_wrappermode", "no"}, []string{"", "no"}, "global-wrappermode"},
		{Parameter{"tls_required_enable", "no"}, []string{"", "no"}, "tls-required-header"},
	}
}

// serviceRules are the rules for the options of the service for implicit TLS.
func serviceRules(name string) []rule {
	return []rule{
		{Parameter{"syslog_name", "postfix/" + name}, nil, ""},
		{Parameter{"smtp_tls_wrappermode", "yes"}, []string{"yes"}, "service-no-wrappermode"},
		// Under these levels the service never sends over an unverified connection.
		{Parameter{"smtp_tls_security_level", "secure"}, []string{"secure", "dane-only", "fingerprint"},
			"service-fails-open"},
		{Parameter{"smtp_connect_timeout", "10s"}, nil, ""},
		{Parameter{"smtp_starttls_timeout", "30s"}, nil, ""},
		{Parameter{"smtp_fallback_relay", ""}, []string{""}, "service-fallback-relay"},
	}
}

// plan is the configuration that Postfix needs for policyd, and the present one.
type plan struct {
	commands  postfix.Commands
	version   Version
	directory string // of main.cf
	queue     string
	params    postfix.Settings // with all $names expanded, and columns of master.cf, as in smtp/unix/chroot
	raw       postfix.Settings // the parameters of main.cf as they are written

	route     bool   // policyd may return routes
	transport string // the service for implicit TLS
	// endpoint is where Postfix finds policyd, as in socketmap:ENDPOINT:NAME. endpoints are those of all listeners: any
	// of them may be in use already.
	endpoint  string
	endpoints []string
	// lists are the parameters with the domains that Postfix receives, domains those that they name, and own the
	// patterns of the addresses in them. ownErr says why there may be more.
	lists, domains, own []string
	ownErr              error
}

// readPlan returns the plan for the installed Postfix. st is what askDaemon has returned.
func readPlan(ctx context.Context, o Options, st status.Status) (plan, error) {
	p := plan{
		route: o.Settings.Port26.Mode != "off", transport: o.Settings.Port26.Transport,
		own: []string{`/@localhost(\.localdomain)?$/`},
	}
	var columns postfix.Settings
	var err error
	if p.commands, err = postfix.Find(o.Postconf, o.ConfigDirectory); err == nil {
		p.params, err = p.commands.Settings(ctx)
	}
	if err == nil {
		p.raw, err = p.commands.Print(ctx)
	}
	if err == nil {
		columns, err = p.commands.Print(ctx, "-F")
	}
	if err != nil {
		return plan{}, err
	}
	maps.Copy(p.params, columns)
	p.directory, p.queue = p.params["config_directory"], p.params["queue_directory"]
	p.version = Version(p.params["mail_version"])
	for _, l := range st.Connections.Listeners {
		endpoint := p.endpointOf(l)
		p.endpoints = append(p.endpoints, endpoint)
		if p.endpoint == "" && !strings.HasPrefix(endpoint, "unix:/") && !p.barred(endpoint) {
			p.endpoint = endpoint
		}
	}
	p.endpoint = cmp.Or(p.endpoint, append(p.endpoints, "inet:127.0.0.1:2526")[0])
	site := o.Settings.Site(nil)
	site.Postconf, site.ConfigDirectory = o.Postconf, o.ConfigDirectory
	received := postfix.New(site)
	_, _, p.ownErr = received.Own(ctx, "policyd.invalid", dns.Effort{}) // reads the lists
	p.lists, p.domains = received.Lists()
	for _, d := range p.domains {
		if !slices.Contains([]string{"localhost", "localhost.localdomain", p.params["myhostname"]}, d) {
			p.own = append(p.own, pattern(d))
		}
	}
	return p, nil
}

// parameters returns the parameters of main.cf. A value that is right already is kept as it is written.
func (p plan) parameters() []Parameter {
	var list []Parameter
	for _, r := range writtenRules() {
		if r.accepts(p.params[r.Name]) {
			r.Value = cmp.Or(p.raw[r.Name], r.Value)
		}
		list = append(list, r.Parameter)
	}
	own := []Parameter{{policyMaps, p.wanted(policyMaps)}}
	if p.route {
		own = append(own, Parameter{transportMaps, p.wanted(transportMaps)})
	}
	if p.params["smtp_tls_CAfile"] == "" && p.params["smtp_tls_CApath"] == "" &&
		p.params["tls_append_default_CA"] != "yes" {
		list = append(list, Parameter{"smtp_tls_CAfile", systemRoots})
	}
	return slices.Insert(list, 1, own...)
}

// systemRoots is the file with root certificates on Debian and its derivatives.
const systemRoots = "/etc/ssl/certs/ca-certificates.crt"

// wanted returns the list of tables for a parameter, unexpanded. The tables of the site stay in front of policyd's,
// because they win. In transport_maps a table of patterns with the domains of this site comes first. A table of policyd
// that a $name hides counts if it needs no change.
func (p plan) wanted(parameter string) string {
	raw := p.tables(parameter, p.raw[parameter])
	ours := func(t table) bool { return t.ours }
	right := func(t table) bool { return t.ours && t.text == t.right }
	hidden := !slices.ContainsFunc(raw, ours) && slices.ContainsFunc(p.tables(parameter, p.params[parameter]), right)
	var before, after []table // of the site, in front of policyd's table and behind it
	own := table{}
	for _, t := range raw {
		switch {
		case !strings.ContainsAny(t.text, ":$"): // a part of a name with a space
		case t.ours:
			own.text = cmp.Or(own.text, t.right)
		case own.text == "" && hidden && strings.HasPrefix(t.text, "$"):
			own.text = t.text
		case own.text == "":
			before = append(before, t)
		default:
			after = append(after, t)
		}
	}
	own.text = cmp.Or(own.text, socketmapTable(p.endpoint, p.mapFor(parameter)))
	isPattern := func(t table) bool { return t.pattern }
	switch {
	case parameter != transportMaps || slices.ContainsFunc(before, isPattern):
	case slices.ContainsFunc(after, isPattern): // Postfix must ask it first
		before, after = append(before, after...), nil
	default:
		before = slices.Insert(before, 0, table{text: p.guard()})
	}
	return join(append(append(before, own), after...))
}

// pattern matches the addresses of a domain, or with a dot in front those of all domains below it.
func pattern(domain string) string {
	if below, ok := strings.CutPrefix(domain, "."); ok {
		return `/@.*\.` + regexp.QuoteMeta(below) + `$/`
	}
	return `/@` + regexp.QuoteMeta(domain) + `$/`
}

// inlineTables reports whether the version has regexp:{…} (postconf(5)).
func (p plan) inlineTables() bool { return p.version.since(7, 0) }

// guard returns the table with the domains of this site.
func (p plan) guard() string {
	if !p.inlineTables() {
		return p.guardFile()
	}
	entries := []string{`{/@$myhostname$$/  :}`}
	for _, own := range p.own {
		entries = append(entries, guardEntry(own))
	}
	return "regexp:{ " + strings.Join(entries, " ") + " }"
}

func (p plan) guardFile() string { return "regexp:" + p.directory + "/transport_own" }

// guardEntry returns a pattern as an entry of an inline table in main.cf, where a dollar sign must be doubled.
func guardEntry(pattern string) string { return "{" + strings.ReplaceAll(pattern, "$", "$$") + "  :}" }

// inlineEntries returns the entries of an inline table of patterns.
func inlineEntries(table string) (entries []string, ok bool) {
	inside, ok := strings.CutPrefix(table, "regexp:{")
	return postfix.Tokens(strings.TrimSuffix(inside, "}")), ok
}

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
	return map[bool]string{true: "y", false: "n"}[p.chrooted(smtp)]
}
