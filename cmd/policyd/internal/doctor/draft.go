package doctor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
)

// draft is what lines are made from.
type draft struct {
	installed *setup // nil: no Postfix is installed
	version   version
	directory string
	chroot    bool
	route     bool
	transport string   // the service for implicit TLS
	own       []string // patterns of this site's domains, as a file has them
	endpoint  endpoint
	// endpoints are those of all listeners: any of them may be in use already.
	endpoints []endpoint
}

func draftFor(ctx context.Context, o LinesOptions) (draft, error) {
	d := emptyDraft(o)
	queue := "/var/spool/postfix"
	commands, err := postfix.Find(o.Postconf, o.ConfigDirectory)
	if err == nil {
		d.installed, err = readSetup(ctx, commands)
	} else if o.Version == "" {
		err = errors.New("no Postfix is installed here: name the version that the lines are for, as in --postfix-version 3.7")
	}
	if err != nil && o.Version == "" {
		return d, err
	}
	if s := d.installed; err == nil && s != nil {
		queue = s.queue
		d.from(ctx, s, o)
	}
	if o.Version != "" {
		if d.version, err = parseVersion(o.Version); err != nil {
			return d, err
		}
	}
	if !d.version.since(4) {
		return d, fmt.Errorf("this is %s: %w", d.version.text, ErrTooOld)
	}
	listeners := o.Settings.Server.Listen
	if running, err := askDaemon(ctx, o.Settings.Admin.Socket); err == nil && len(running.status.Connections.Listeners) > 0 {
		listeners = running.status.Connections.Listeners // systemd may have passed others
	}
	d.at(listeners, queue)
	return d, nil
}

// from takes over what depends on the installed Postfix.
func (d *draft) from(ctx context.Context, s *setup, o LinesOptions) {
	d.installed, d.version, d.directory, d.chroot = s, s.version, s.directory, s.smtpChrooted()
	d.own = append(d.own, ownPatterns(ctx, o, s.params["myhostname"])...)
}

// at takes over the listeners of policyd.
func (d *draft) at(listeners []string, queue string) {
	d.endpoint = endpointOf(listeners, queue)
	for _, l := range listeners {
		d.endpoints = append(d.endpoints, endpointOf([]string{l}, queue))
	}
}

// emptyDraft is the draft without a Postfix.
func emptyDraft(o LinesOptions) draft {
	return draft{
		chroot: true, directory: "/etc/postfix", route: o.Settings.Port26.Mode != "off", transport: o.Settings.Port26.Transport,
		own: []string{`/@localhost(\.localdomain)?$/`},
	}
}

// raw returns a parameter without expansion, "" without a Postfix.
func (d draft) raw(name string) string {
	if d.installed == nil {
		return ""
	}
	return d.installed.raw[name]
}

// expanded returns a parameter with its $names expanded, "" without a Postfix.
func (d draft) expanded(name string) string {
	if d.installed == nil {
		return ""
	}
	return d.installed.params[name]
}

// parameters returns the parameters of main.cf. A value that is good already is kept as it is written.
func (d draft) parameters() []Parameter {
	list := []Parameter{
		d.keep("smtp_tls_security_level", "may", func(v string) bool { return v != "" && v != "none" }),
		{"smtp_tls_policy_maps", strings.Join(d.policyMaps(), ", ")},
	}
	if d.route {
		list = append(list, Parameter{"transport_maps", strings.Join(d.transportMaps(), ", ")})
	}
	is := func(value string) func(string) bool { return func(v string) bool { return v == value } }
	list = append(list,
		d.keep("smtp_dns_support_level", "dnssec", is("dnssec")),
		d.keep("smtp_tls_dane_insecure_mx_policy", "dane", is("dane")),
		d.keep("smtp_mx_address_limit", "0", is("0")))
	if d.installed != nil && d.expanded("smtp_tls_CAfile") == "" && d.expanded("smtp_tls_CApath") == "" && d.expanded("tls_append_default_CA") != "yes" {
		list = append(list, Parameter{"smtp_tls_CAfile", systemRoots()})
	}
	return append(list, d.keep("smtp_tls_loglevel", "1", func(v string) bool { return v != "" && v != "0" }))
}

// keep returns the installed value of a parameter if it is good, and otherwise value.
func (d draft) keep(name, value string, good func(string) bool) Parameter {
	if good(d.expanded(name)) {
		value = d.raw(name)
	}
	return Parameter{name, value}
}

// policyMaps returns the tables of smtp_tls_policy_maps: those of the site stay in front, because they win.
func (d draft) policyMaps() []string {
	list, at := d.tables("smtp_tls_policy_maps", tlsNames())
	if at < 0 {
		return append(list, d.endpoint.table(d.tlsMap()))
	}
	return list
}

// tlsMap is the map of TLS policies that fits the version.
func (d draft) tlsMap() string {
	if d.version.since(10) {
		return "tls-policy-tlsrpt"
	}
	return "tls-policy"
}

// transportMaps returns the tables of transport_maps: a table of patterns with the domains of this site first, then the
// tables of the site, then policyd.
func (d draft) transportMaps() []string {
	list, at := d.tables("transport_maps", []string{"transport"})
	guard := slices.IndexFunc(list, func(t string) bool { return parseTable(t).isPattern() })
	if at >= 0 && guard > at { // Postfix must ask the patterns first
		list = slices.Delete(list, at, at+1)
		at = -1
	}
	if at < 0 {
		list = append(list, d.endpoint.table("transport"))
	}
	if guard < 0 {
		list = slices.Insert(list, 0, d.guard())
	}
	return list
}

// tables returns the unexpanded tables of a parameter, and the index of policyd's, -1 for none. Policyd's entry gets the
// current endpoint and the name that fits the version. An entry hidden in a $name counts if it needs no change.
func (d draft) tables(parameter string, names []string) (list []string, at int) {
	at = -1
	for _, t := range tables(d.raw(parameter)) {
		switch ours := d.ours(t, names); {
		case ours && at >= 0: // a second entry of policyd
		case ours:
			at = len(list)
			list = append(list, d.corrected(t, names))
		default:
			list = append(list, t.text)
		}
	}
	if at < 0 {
		for _, t := range tables(d.expanded(parameter)) {
			if d.ours(t, names) && d.corrected(t, names) == t.text {
				at = slices.IndexFunc(list, func(raw string) bool { return strings.HasPrefix(raw, "$") })
			}
		}
	}
	return list, at
}

// ours reports whether a table is one of policyd's maps: everything at an endpoint of policyd, and policyd's names at
// any other endpoint, except those that postfix-tlspol uses as well.
func (d draft) ours(t table, names []string) bool {
	if slices.Contains(d.endpoints, endpoint(t.endpoint)) {
		return true
	}
	return t.isPolicyd(names) && !strings.HasPrefix(strings.ToLower(t.name), "query")
}

// corrected returns the entry for one of policyd's tables, of which names are the known ones.
func (d draft) corrected(t table, names []string) string {
	at, name := d.endpoint, t.name
	if slices.Contains(d.endpoints, endpoint(t.endpoint)) {
		at = endpoint(t.endpoint)
	}
	known := foldContains(names, name)
	switch tlsrpt := foldContains(tlsrptNames(), name); {
	case names[0] == "transport" && !known:
		name = "transport"
	case names[0] != "transport" && (!known || tlsrpt != d.version.since(10)):
		name = d.tlsMap()
	}
	return at.table(name)
}

// ownPatterns returns a pattern for every domain that Postfix's lists name, except $myhostname.
func ownPatterns(ctx context.Context, o LinesOptions, myhostname string) []string {
	site := o.Settings.Site(quiet())
	site.Postconf, site.ConfigDirectory = o.Postconf, o.ConfigDirectory
	s, err := postfix.New(site)
	if err != nil {
		return nil
	}
	_, _, _ = s.Own(ctx, "policyd.invalid", dns.Effort{}) // reads the lists
	var patterns []string
	_, domains := s.Lists()
	for _, d := range domains {
		if !slices.Contains([]string{"localhost", "localhost.localdomain", myhostname}, d) {
			patterns = append(patterns, pattern(d))
		}
	}
	return patterns
}

// pattern matches the addresses of a domain, or with a dot in front those of all domains below it.
func pattern(domain string) string {
	if below, ok := strings.CutPrefix(domain, "."); ok {
		return `/@.*\.` + regexp.QuoteMeta(below) + `$/`
	}
	return `/@` + regexp.QuoteMeta(domain) + `$/`
}

// inlineTables reports whether a version has regexp:{…} (postconf(5)).
func inlineTables(v version) bool { return v.since(7) }

// guard returns the table with the domains of this site.
func (d draft) guard() string {
	if inlineTables(d.version) {
		return d.inlineGuard()
	}
	return "regexp:" + d.directory + "/transport_own"
}

func (d draft) inlineGuard() string { return "regexp:{ " + strings.Join(d.guardEntries(), " ") + " }" }

func (d draft) guardEntries() []string {
	entries := []string{`{/@$myhostname$$/  :}`}
	for _, p := range d.own {
		entries = append(entries, "{"+dollars(p)+"  :}")
	}
	return entries
}

// dollars doubles the dollar signs of a text for main.cf.
func dollars(text string) string { return strings.ReplaceAll(text, "$", "$$") }

// systemRoots is the file with root certificates on Debian and its derivatives.
func systemRoots() string { return "/etc/ssl/certs/ca-certificates.crt" }

// services returns the services of master.cf.
func (d draft) services() []Service {
	if !d.route {
		return []Service{}
	}
	return []Service{serviceFor(d.transport, d.chroot)}
}
