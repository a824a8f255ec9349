package doctor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/postfix"
)

// LinesOptions say for which Postfix lines are made.
type LinesOptions struct {
	Settings *settings.Loaded
	// Version is that of Postfix; "": that of the one which is installed.
	Version string
	// Postconf and ConfigDirectory choose a Postfix; "": the one that is installed.
	Postconf, ConfigDirectory string
}

// Lines are what is to be added to the configuration of Postfix. Their JSON form is stable.
type Lines struct {
	// Postfix is the version that they are for.
	Postfix string `json:"postfix"`
	// Main and Master are for main.cf and master.cf.
	Main   []string `json:"main_cf"`
	Master []string `json:"master_cf"`
	// Own is for transport_own, a file that Postfix before 3.7 needs beside main.cf.
	Own []string `json:"transport_own,omitempty"`
	// Directory is where those files are.
	Directory string `json:"config_directory"`
}

// ErrTooOld says that a Postfix cannot use policyd.
var ErrTooOld = errors.New("policyd needs Postfix 3.4 or later")

// MakeLines returns the lines for a version of Postfix and the listeners of the settings. Where Postfix is
// installed, what its configuration has already is kept. The errors are ErrTooOld, a version that is none, or
// that there is neither a Postfix nor a version.
func MakeLines(ctx context.Context, o LinesOptions) (Lines, error) {
	d, err := draftFor(ctx, o)
	if err != nil {
		return Lines{}, err
	}
	if !d.version.since(4) {
		return Lines{}, fmt.Errorf("this is %s: %w", d.version.text, ErrTooOld)
	}
	l := Lines{
		Postfix: d.version.text, Directory: d.directory, Main: d.main(),
		Master: serviceLines(o.Settings.Port26.Transport, d.chroot),
	}
	if o.Settings.Port26.Mode == "off" {
		l.Master = []string{}
	} else if !inlineTables(d.version) {
		for _, p := range d.own {
			l.Own = append(l.Own, p+"    :")
		}
	}
	return l, nil
}

// draft is what lines are made from.
type draft struct {
	version   version
	endpoint  endpoint
	directory string
	level     string
	roots     bool // there are some already
	chroot    bool
	route     bool
	own       []string // patterns, as a file has them
	// policies and transports are tables that are there already.
	policies, transports []string
}

func draftFor(ctx context.Context, o LinesOptions) (draft, error) {
	d := draft{
		level: "may", chroot: true, roots: true, directory: "/etc/postfix", route: o.Settings.Port26.Mode != "off",
		own: []string{`/@localhost(\.localdomain)?$/`},
	}
	queue := "/var/spool/postfix"
	commands, err := postfix.Find(o.Postconf, o.ConfigDirectory)
	if err != nil && o.Version == "" {
		return d, errors.New("there is no Postfix here: say which version the lines are for, as in --postfix-version 3.7")
	}
	if err == nil {
		s, err := readSetup(ctx, commands)
		if err != nil && o.Version == "" {
			return d, err
		}
		if err == nil {
			d.from(s)
			queue = s.queue
			d.own = append(d.own, ownPatterns(ctx, o, s.params["myhostname"])...)
		}
	}
	if o.Version != "" {
		if d.version, err = parseVersion(o.Version); err != nil {
			return d, err
		}
	}
	listeners := o.Settings.Server.Listen
	if running, err := askDaemon(ctx, o.Settings.Admin.Socket); err == nil && len(running.status.Connections.Listeners) > 0 {
		listeners = running.status.Connections.Listeners // systemd may have passed others
	}
	d.endpoint = endpointOf(listeners, queue)
	return d, nil
}

// from keeps what the configuration has already.
func (d *draft) from(s *setup) {
	d.version, d.directory, d.chroot = s.version, s.directory, s.smtpChrooted()
	if level := s.params["smtp_tls_security_level"]; level != "" && level != "none" {
		d.level = level
	}
	d.roots = s.params["smtp_tls_CAfile"] != "" || s.params["smtp_tls_CApath"] != "" || s.params["tls_append_default_CA"] == "yes"
	for _, t := range tables(s.params["smtp_tls_policy_maps"]) {
		if !t.isPolicyd(tlsNames()) {
			d.policies = append(d.policies, t.text)
		}
	}
	for _, t := range tables(s.params["transport_maps"]) {
		if !t.isPolicyd([]string{"transport"}) {
			d.transports = append(d.transports, dollars(t.text))
		}
	}
}

// dollars doubles the dollar signs of an expanded value.
func dollars(text string) string { return strings.ReplaceAll(text, "$", "$$") }

// ownPatterns returns a pattern for every domain that Postfix's lists name, $myhostname left out.
func ownPatterns(ctx context.Context, o LinesOptions, myhostname string) []string {
	site := o.Settings.Site(quiet())
	site.Postconf, site.ConfigDirectory = o.Postconf, o.ConfigDirectory
	s, err := postfix.New(site)
	if err != nil {
		return nil
	}
	_, _, _ = s.Own(ctx, "policyd.invalid") // to have the lists read
	var patterns []string
	for _, d := range s.State().Domains {
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

// inlineTables says whether regexp:{…} is known, postconf(5).
func inlineTables(v version) bool { return v.since(7) }

// main returns the lines of main.cf.
func (d draft) main() []string {
	name := "tls-policy"
	if d.version.since(10) {
		name = "tls-policy-tlsrpt"
	}
	lines := []string{
		"smtp_tls_security_level = " + d.level,
		"smtp_tls_policy_maps = " + strings.Join(append(slices.Clone(d.policies), d.endpoint.table(name)), ", "),
	}
	if d.route {
		lines = append(lines, "transport_maps =")
		if !slices.ContainsFunc(d.transports, func(t string) bool { return parseTable(t).isPattern() }) {
			lines = append(lines, d.guard()...)
		}
		for _, t := range append(slices.Clone(d.transports), d.endpoint.table("transport")) {
			lines = append(lines, "    "+t)
		}
	}
	lines = append(lines, "smtp_dns_support_level = dnssec", "smtp_tls_dane_insecure_mx_policy = dane")
	if !d.roots {
		lines = append(lines, "smtp_tls_CAfile = "+systemRoots())
	}
	return append(lines, "smtp_tls_loglevel = 1")
}

func (d draft) guard() []string {
	if !inlineTables(d.version) {
		return []string{"    regexp:" + d.directory + "/transport_own"}
	}
	lines := []string{"    regexp:{", `        {/@$myhostname$$/  :}`}
	for _, p := range d.own {
		lines = append(lines, "        {"+dollars(p)+"  :}")
	}
	return append(lines, "    }")
}

// guarded is transport_maps in one line, for a finding.
func guarded(e endpoint, v version) string {
	if !inlineTables(v) {
		return "transport_maps = regexp:/etc/postfix/transport_own, " + e.table("transport")
	}
	return `transport_maps = regexp:{ {/@$myhostname$$/ :} }, ` + e.table("transport")
}

// systemRoots is where Debian and its derivatives have the certificate authorities.
func systemRoots() string { return "/etc/ssl/certs/ca-certificates.crt" }

// serviceLines are those of master.cf.
func serviceLines(name string, chroot bool) []string {
	column := "n"
	if chroot {
		column = "y"
	}
	return []string{
		fmt.Sprintf("%-9s unix  -       -       %s       -       -       smtp", name, column),
		"  -o syslog_name=postfix/" + name,
		"  -o smtp_tls_wrappermode=yes",
		"  -o smtp_tls_security_level=secure",
		"  -o smtp_connect_timeout=10s",
		"  -o smtp_starttls_timeout=30s",
		"  -o smtp_fallback_relay=",
	}
}

// CheckVersion says what is wrong with a version that was asked for; "" is none.
func CheckVersion(text string) error {
	if text == "" {
		return nil
	}
	_, err := parseVersion(text)
	return err
}
