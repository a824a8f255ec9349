package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/postfix"
)

// setup is the configuration of Postfix, as postconf(1) reports it.
type setup struct {
	commands  postfix.Commands
	version   version
	directory string // of main.cf
	queue     string
	params    map[string]string // expanded
	raw       map[string]string // the same for the parameters of main.cf that policyd needs, as they are written
	services  []service
}

// service is a line of master.cf.
type service struct {
	name, kind, command string
	chroot              bool
	options             map[string]string // -o
}

// version is a Postfix version. The zero version is older than all others.
type version struct {
	major, minor, patch int
	text                string
}

func parseVersion(text string) (version, error) {
	v := version{text: text}
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == '-' })
	if len(fields) < 2 || !strings.HasPrefix(text, fields[0]) {
		return v, fmt.Errorf("%q is not a Postfix version: write one such as 3.7 or 3.10.2", text)
	}
	var err error
	if v.major, err = strconv.Atoi(fields[0]); err == nil {
		v.minor, err = strconv.Atoi(fields[1])
	}
	if len(fields) > 2 { // a snapshot has a date there, as in 3.12-20260101
		v.patch, _ = strconv.Atoi(fields[2])
	}
	if err != nil || v.major < 0 || v.minor < 0 {
		return v, fmt.Errorf("%q is not a Postfix version: write one such as 3.7 or 3.10.2", text)
	}
	return v, nil
}

// since reports whether it is Postfix 3.minor or later.
func (v version) since(minor int) bool { return v.major > 3 || v.major == 3 && v.minor >= minor }

// between reports whether it is one of 3.minor.0 to 3.minor.last.
func (v version) between(minor, last int) bool {
	return v.major == 3 && v.minor == minor && v.patch <= last
}

func readSetup(ctx context.Context, c postfix.Commands) (*setup, error) {
	s := &setup{commands: c}
	text, err := c.Show(ctx, "-x")
	if err != nil {
		return nil, err
	}
	s.params = parameters(text)
	if text, err = c.Show(ctx, "smtp_tls_security_level", "smtp_tls_policy_maps", "transport_maps", "smtp_dns_support_level",
		"smtp_tls_dane_insecure_mx_policy", "smtp_mx_address_limit", "smtp_tls_CAfile", "smtp_tls_loglevel"); err != nil {
		return nil, err
	}
	s.raw = parameters(text)
	if s.version, err = parseVersion(s.params["mail_version"]); err != nil {
		return nil, err
	}
	s.directory, s.queue = s.params["config_directory"], s.params["queue_directory"]
	if text, err = c.Show(ctx, "-M"); err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		const columns = 8
		if f := strings.Fields(line); len(f) >= columns {
			s.services = append(s.services, service{name: f[0], kind: f[1], chroot: s.chrooted(f[4]), command: f[7], options: map[string]string{}})
		}
	}
	if text, err = c.Show(ctx, "-P", "-x"); err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), " =")
		parts := strings.Split(name, "/")
		if !ok || len(parts) < 3 {
			continue
		}
		n := len(parts)
		if svc := s.service(strings.Join(parts[:n-2], "/"), parts[n-2]); svc != nil {
			svc.options[parts[n-1]] = strings.TrimSpace(value)
		}
	}
	return s, nil
}

// parameters reads lines such as "name = value".
func parameters(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), " ="); ok {
			all[name] = strings.TrimSpace(value)
		}
	}
	return all
}

// chrooted reads the fifth column of master.cf, whose default depends on the compatibility level (master(5)).
func (s *setup) chrooted(column string) bool {
	if column == "-" {
		level, _ := strconv.ParseFloat(s.params["compatibility_level"], 64)
		return level < 1
	}
	return column == "y"
}

// service returns the service of that name and type, nil for none.
func (s *setup) service(name, kind string) *service {
	i := slices.IndexFunc(s.services, func(svc service) bool { return svc.name == name && svc.kind == kind })
	if i < 0 {
		return nil
	}
	return &s.services[i]
}

// value returns a parameter as a service has it.
func (s *setup) value(svc *service, name string) string {
	if svc != nil {
		if v, ok := svc.options[name]; ok {
			return v
		}
	}
	return s.params[name]
}

// smtp is the client service for ordinary mail.
func (s *setup) smtp() *service { return s.service("smtp", "unix") }

func (s *setup) smtpChrooted() bool {
	svc := s.smtp()
	return svc != nil && svc.chroot
}

func (s *setup) mainCF() string   { return filepath.Join(s.directory, "main.cf") }
func (s *setup) masterCF() string { return filepath.Join(s.directory, "master.cf") }

// table is an entry of a list of maps.
type table struct {
	text string
	// proxied is set for proxy:type:name.
	proxied bool
	// endpoint, such as inet:127.0.0.1:2526, and name are set for a socketmap.
	endpoint, name string
}

func parseTable(text string) table {
	t := table{text: text}
	rest, proxied := strings.CutPrefix(text, "proxy:")
	t.proxied = proxied
	if socketmap, ok := strings.CutPrefix(rest, "socketmap:"); ok {
		if i := strings.LastIndexByte(socketmap, ':'); i > 0 {
			t.endpoint, t.name = socketmap[:i], socketmap[i+1:]
		}
	}
	return t
}

func (t table) isPolicyd(names []string) bool {
	return t.endpoint != "" && foldContains(names, t.name)
}

// isPattern reports whether a table matches the whole address by pattern.
func (t table) isPattern() bool {
	return strings.HasPrefix(t.text, "regexp:") || strings.HasPrefix(t.text, "pcre:")
}

// tables reads a list of maps: type:name, or type:{…} with spaces.
func tables(text string) []table {
	var all []table
	depth, start := 0, -1
	for i, c := range text + " " {
		separator := depth == 0 && strings.ContainsRune(" \t,", c)
		switch {
		case separator && start >= 0:
			all = append(all, parseTable(text[start:i]))
			start = -1
		case !separator && start < 0:
			start = i
		}
		switch {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		}
	}
	return all
}

func tlsNames() []string {
	return []string{"tls-policy", "tls-policy-tlsrpt", "QUERY", "QUERYwithTLSRPT", "sts"}
}

// foldContains compares names of maps as policyd does, without regard to case.
func foldContains(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

func tlsrptNames() []string { return []string{"tls-policy-tlsrpt", "QUERYwithTLSRPT"} }

// policydTables returns the tables of a parameter that are policyd's, by the names of the maps.
func policydTables(list []table, names []string) []int {
	var at []int
	for i, t := range list {
		if t.isPolicyd(names) {
			at = append(at, i)
		}
	}
	return at
}
