package doctor

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/postfix"
)

// setup is the configuration of Postfix, as postconf(1) reports it.
type setup struct {
	commands  postfix.Commands
	version   version
	directory string // of main.cf
	queue     string
	params    map[string]string // of main.cf, with all $names expanded
	raw       map[string]string // the same as they are written
	services  []service
}

// service is a line of master.cf.
type service struct {
	id      string // name and type, as in smtp/unix
	command string
	chroot  bool
	options map[string]string // -o
}

// smtp is the client service for ordinary mail.
const smtp = "smtp/unix"

// defaultSetup is that of Debian, where no Postfix is installed.
func defaultSetup() *setup {
	return &setup{
		directory: "/etc/postfix", queue: "/var/spool/postfix",
		services: []service{{id: smtp, command: "smtp", chroot: true}},
	}
}

func readSetup(ctx context.Context, c postfix.Commands) (*setup, error) {
	s := &setup{commands: c}
	var err error
	if s.params, err = c.Parameters(ctx); err != nil {
		return nil, err
	}
	if s.version, err = parseVersion(s.params["mail_version"]); err != nil {
		return nil, err
	}
	s.directory, s.queue = s.params["config_directory"], s.params["queue_directory"]
	if level := "smtp_tls_security_level"; s.params[level] == "" &&
		(s.params["smtp_use_tls"] == "yes" || s.params["smtp_enforce_tls"] == "yes") {
		s.params[level] = "may" // or more: the old parameters are in effect
	}
	text, err := c.Show(ctx)
	if err != nil {
		return nil, err
	}
	s.raw = maps.Collect(postfix.Assignments(text))
	if text, err = c.Show(ctx, "-M"); err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		const columns = 8
		if f := strings.Fields(line); len(f) >= columns {
			s.services = append(s.services, service{f[0] + "/" + f[1], f[7], s.chrooted(f[4]), map[string]string{}})
		}
	}
	if text, err = c.Show(ctx, "-P", "-x"); err != nil {
		return nil, err
	}
	for name, value := range postfix.Assignments(text) {
		i := max(strings.LastIndexByte(name, '/'), 0)
		if svc := s.service(name[:i]); svc != nil {
			svc.options[name[i+1:]] = value
		}
	}
	return s, nil
}

// installed reports whether the setup is that of a Postfix, not the default.
func (s *setup) installed() bool { return s.commands.Postconf != "" }

// chrooted reads the fifth column of master.cf, whose default depends on the compatibility level (master(5)).
func (s *setup) chrooted(column string) bool {
	if column == "-" {
		level, _ := strconv.ParseFloat(s.params["compatibility_level"], 64)
		return level < 1
	}
	return column == "y"
}

// service returns the service of that name and type, nil for none.
func (s *setup) service(id string) *service {
	i := slices.IndexFunc(s.services, func(svc service) bool { return svc.id == id })
	if i < 0 {
		return nil
	}
	return &s.services[i]
}

// value returns a parameter as a service has it.
func (s *setup) value(svc *service, name string) string {
	if v, ok := svc.options[name]; ok {
		return v
	}
	return s.params[name]
}

func (s *setup) smtpChrooted() bool {
	svc := s.service(smtp)
	return svc != nil && svc.chroot
}

func (s *setup) mainCF() string   { return filepath.Join(s.directory, "main.cf") }
func (s *setup) masterCF() string { return filepath.Join(s.directory, "master.cf") }

// edit returns a shell command that edits the configuration.
func (s *setup) edit(option, argument string) string {
	command := "postconf"
	if dir := s.commands.ConfigDirectory; dir != "" {
		command += " -c " + quoted(dir)
	}
	return command + " " + option + " " + quoted(argument)
}

// set returns a shell command that changes a parameter of main.cf.
func (s *setup) set(name, value string) string {
	return s.edit("-e", strings.TrimSpace(name+" = "+value))
}

// quoted quotes an argument for the shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// version is a Postfix version. The zero version is older than all others.
type version struct {
	major, minor, patch int
	text                string
}

// versionFormat matches 3.7, 3.10.2 and 3.12-20260101, a snapshot.
var versionFormat = regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})(?:[.-](\d{0,8}).*)?$`)

func parseVersion(text string) (version, error) {
	f := versionFormat.FindStringSubmatch(text)
	if f == nil {
		return version{}, fmt.Errorf("%q is not a Postfix version: write one such as 3.7 or 3.10.2", text)
	}
	v := version{text: text}
	v.major, _ = strconv.Atoi(f[1]) // digits
	v.minor, _ = strconv.Atoi(f[2])
	v.patch, _ = strconv.Atoi(f[3]) // 0 if there is none
	return v, nil
}

// since reports whether it is Postfix 3.minor or later.
func (v version) since(minor int) bool { return v.major > 3 || v.major == 3 && v.minor >= minor }

// between reports whether it is one of 3.minor.0 to 3.minor.last.
func (v version) between(minor, last int) bool {
	return v.major == 3 && v.minor == minor && v.patch <= last
}

// The parameters of main.cf that have policyd's tables.
const (
	policyMaps    = "smtp_tls_policy_maps"
	transportMaps = "transport_maps"
)

// table is an entry of a list of maps.
type table struct {
	text string
	// proxied is set for proxy:type:name.
	proxied bool
	// endpoint, such as inet:127.0.0.1:2526, and name are set for a socketmap.
	endpoint, name string
}

// tables reads a list of maps: type:name, or type:{…} with spaces.
func tables(text string) []table {
	var all []table
	for _, token := range postfix.Tokens(text) {
		t := table{text: token}
		token, t.proxied = strings.CutPrefix(token, "proxy:")
		if socketmap, ok := strings.CutPrefix(token, "socketmap:"); ok {
			if i := strings.LastIndexByte(socketmap, ':'); i > 0 {
				t.endpoint, t.name = socketmap[:i], socketmap[i+1:]
			}
		}
		all = append(all, t)
	}
	return all
}

// serves reports whether a table is, by its name, one of policyd's maps for a parameter.
func (t table) serves(parameter string) bool {
	kind := lookup.CanonicalMap(t.name)
	return t.endpoint != "" && kind != "" && (kind == "transport") == (parameter == transportMaps)
}

// hasTLSRPT reports whether a table answers with the attributes for TLSRPT.
func (t table) hasTLSRPT() bool { return lookup.CanonicalMap(t.name) == "tls-policy-tlsrpt" }

// isPattern reports whether a table matches the whole address by pattern.
func (t table) isPattern() bool {
	return strings.HasPrefix(t.text, "regexp:") || strings.HasPrefix(t.text, "pcre:")
}
