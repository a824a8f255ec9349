package doctor

import (
	"cmp"
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
)

// rule is a parameter that policies depend on, with the value that postfix-config writes if it has a wrong one.
type rule struct {
	Parameter
	// right are the accepted values; nil means all.
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
	Options
	daemon    status.Status // the result of askDaemon
	daemonErr error
	commands  postfix.Commands
	version   string // the version of Postfix
	directory string // the directory of main.cf
	queue     string
	params    postfix.Settings // all $names are expanded; columns of master.cf are named as in smtp/unix/chroot
	raw       postfix.Settings // the parameters of main.cf as they are written
	// endpoint is where Postfix finds policyd, as in socketmap:ENDPOINT:NAME. endpoints are those of all listeners: any
	// of them may be in use already.
	endpoint  string
	endpoints []string
	// lists are the parameters with the domains that Postfix receives, domains the domains that they name, and own the
	// patterns for addresses in these. ownErr is why there may be more.
	lists, domains, own []string
	ownErr              error
}

// newPlan returns the plan for the installed Postfix. After an error it only has the options and the daemon.
func newPlan(ctx context.Context, o Options) (p plan, err error) {
	p.Options = o
	p.daemon, p.daemonErr = o.askDaemon(ctx)
	p.commands, err = postfix.Find(p.Postconf, p.ConfigDirectory)
	if err == nil {
		p.params, err = p.commands.Read(ctx, "-x", "-P -x", "-F")
	}
	if err == nil {
		p.raw, err = p.commands.Read(ctx, "")
	}
	if err != nil {
		return p, err
	}
	p.directory, p.queue = p.params["config_directory"], p.params["queue_directory"]
	p.version = p.params["mail_version"]
	for _, l := range p.daemon.Connections.Listeners {
		p.endpoints = append(p.endpoints, p.params.Endpoint(l))
	}
	i := slices.IndexFunc(p.endpoints, func(e string) bool { return !strings.HasPrefix(e, "unix:/") && !p.barred(e) })
	p.endpoint = append(p.endpoints, "inet:127.0.0.1:2526")[max(i, 0)]
	site := p.Settings.Site(nil)
	site.Postconf, site.ConfigDirectory = p.Postconf, p.ConfigDirectory
	received := postfix.New(site)
	_, _, p.ownErr = received.Own(ctx, "policyd.invalid", dns.Effort{}) // reads the lists
	p.lists, p.domains = received.Lists()
	p.own = []string{`/@localhost(\.localdomain)?$/`}
	for _, d := range p.domains {
		inGuard := d == p.params["myhostname"] && p.params.InlineTables()
		if !inGuard && d != "localhost" && d != "localhost.localdomain" {
			p.own = append(p.own, pattern(d))
		}
	}
	return p, nil
}

// smtp is the client service for ordinary mail.
const smtp = "smtp/unix"

// service is the client service for implicit TLS.
func (p plan) service() string { return p.Settings.Port26.Transport + "/unix" }

// routes reports whether policyd may return routes.
func (p plan) routes() bool { return p.Settings.Port26.Mode != "off" }

func (p plan) mainCF() string   { return filepath.Join(p.directory, "main.cf") }
func (p plan) masterCF() string { return filepath.Join(p.directory, "master.cf") }

// parameters returns the parameters of main.cf. A value that is already right is kept as it is written.
func (p plan) parameters() []Parameter {
	var list []Parameter
	for _, r := range writtenRules() {
		if r.accepts(p.params[r.Name]) {
			r.Value = cmp.Or(p.raw[r.Name], r.Value)
		}
		list = append(list, r.Parameter)
	}
	if p.routes() {
		list = slices.Insert(list, 1, Parameter{transportMaps, p.wanted(transportMaps)})
	}
	if p.params["smtp_tls_CAfile"] == "" && p.params["smtp_tls_CApath"] == "" &&
		p.params["tls_append_default_CA"] != "yes" {
		list = append(list, Parameter{"smtp_tls_CAfile", systemRoots})
	}
	return slices.Insert(list, 1, Parameter{policyMaps, p.wanted(policyMaps)})
}

// systemRoots is the file with root certificates on Debian and its derivatives.
const systemRoots = "/etc/ssl/certs/ca-certificates.crt"

// wanted returns the list of tables for a parameter, unexpanded. The tables of the site stay in front of policyd's,
// because they win. In transport_maps a table of patterns with the domains of this site comes first. A table of policyd
// that a $name hides counts if it needs no change.
func (p plan) wanted(parameter string) string {
	list := slices.DeleteFunc(p.tables(parameter, p.raw[parameter]), func(t table) bool { return noTable(t.text) })
	ours := func(t table) bool { return t.ours }
	right := func(t table) bool { return t.ours && t.text == t.right }
	isPattern := func(t table) bool { return t.pattern }
	at := slices.IndexFunc(list, ours)
	switch {
	case at >= 0:
		list[at].text = list[at].right
		list = append(list[:at+1], slices.DeleteFunc(list[at+1:], ours)...)
	case slices.ContainsFunc(p.tables(parameter, p.params[parameter]), right):
		at = slices.IndexFunc(list, func(t table) bool { return strings.HasPrefix(t.text, "$") })
	}
	if at < 0 {
		at = len(list)
		list = append(list, table{text: postfix.SocketmapTable(p.endpoint, p.mapFor(parameter))})
	}
	switch own := list[at]; {
	case parameter != transportMaps || slices.ContainsFunc(list[:at], isPattern):
	case slices.ContainsFunc(list[at:], isPattern): // Postfix must ask it first
		list = append(slices.Delete(list, at, at+1), own)
	default:
		list = slices.Insert(list, 0, table{text: p.guard()})
	}
	return join(list)
}

// pattern returns a pattern for the addresses of a domain, or with a dot in front for those of all domains below it.
func pattern(domain string) string {
	if below, ok := strings.CutPrefix(domain, "."); ok {
		return `/@.*\.` + regexp.QuoteMeta(below) + `$/`
	}
	return `/@` + regexp.QuoteMeta(domain) + `$/`
}

// guard returns the table with the domains of this site.
func (p plan) guard() string {
	if !p.params.InlineTables() {
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

// fileEntry returns a pattern as a line of a file.
func fileEntry(pattern string) string { return pattern + "    :" }

// wantedService returns the service for implicit TLS.
func (p plan) wantedService() Service {
	name := p.Settings.Port26.Transport
	s := Service{Service: p.service(), Definition: name + " unix - - " + p.chrootColumn() + " - - smtp"}
	for _, r := range serviceRules(name) {
		s.Parameters = append(s.Parameters, r.Parameter)
	}
	return s
}

// chrootColumn returns the fifth column of master.cf for the service: that of smtp.
func (p plan) chrootColumn() string {
	if p.params.Chrooted(smtp) {
		return "y"
	}
	return "n"
}
