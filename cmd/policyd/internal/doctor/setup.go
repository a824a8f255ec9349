package doctor

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/postfix"
)

// setup is the configuration of Postfix, as postconf(1) reports it.
type setup struct {
	commands  postfix.Commands
	version   Version
	directory string // of main.cf
	queue     string
	params    postfix.Settings // with all $names expanded, and columns of master.cf, as in smtp/unix/chroot
	raw       postfix.Settings // the parameters of main.cf as they are written
}

// smtp is the client service for ordinary mail.
const smtp = "smtp/unix"

func readSetup(ctx context.Context, o Options) (*setup, error) {
	c, err := postfix.Find(o.Postconf, o.ConfigDirectory)
	if err != nil {
		return nil, err
	}
	s := &setup{commands: c}
	var columns postfix.Settings
	if s.params, err = c.Settings(ctx); err == nil {
		s.raw, err = c.Print(ctx)
	}
	if err == nil {
		columns, err = c.Print(ctx, "-F")
	}
	if err != nil {
		return nil, err
	}
	maps.Copy(s.params, columns)
	s.directory, s.queue = s.params["config_directory"], s.params["queue_directory"]
	s.version = Version(s.params["mail_version"])
	return s, nil
}

// chrooted reads the fifth column of master.cf, whose default depends on the compatibility level (master(5)).
func (s *setup) chrooted(service string) bool {
	column := s.params[service+"/chroot"]
	level, _ := strconv.ParseFloat(s.params["compatibility_level"], 64)
	return column == "y" || column == "-" && level < 1
}

// program returns the program of a service; "" means that there is no such service.
func (s *setup) program(service string) string {
	name, _, _ := strings.Cut(s.params[service+"/command"], " ")
	return name
}

// overrides returns the services that set a parameter themselves.
func (s *setup) overrides(parameter string) (services []string) {
	for _, name := range slices.Sorted(maps.Keys(s.params)) {
		if service, ok := strings.CutSuffix(name, "/"+parameter); ok {
			services = append(services, service)
		}
	}
	return services
}

func (s *setup) mainCF() string   { return filepath.Join(s.directory, "main.cf") }
func (s *setup) masterCF() string { return filepath.Join(s.directory, "master.cf") }

// edit returns a shell command that edits the configuration.
func (s *setup) edit(option, argument string) string {
	command := "postconf "
	if dir := s.commands.ConfigDirectory; dir != "" {
		command += "-c " + quoted(dir) + " "
	}
	return command + option + " " + quoted(argument)
}

// set returns a shell command that changes a parameter of main.cf.
func (s *setup) set(name, value string) string {
	return s.edit("-e", strings.TrimSpace(name+" = "+value))
}

// quoted quotes an argument for the shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Version is a version of Postfix, such as 3.7, 3.10.2 or the snapshot 3.12-20260101. Any other text is older than all
// of them.
type Version string

// since reports whether it is Postfix 3.minor.patch or later.
func (v Version) since(minor, patch int) bool {
	var parts [3]int
	_, _ = fmt.Sscanf(string(v), "%d.%d.%d", &parts[0], &parts[1], &parts[2]) // what is missing is 0
	return slices.Compare(parts[:], []int{3, minor, patch}) >= 0
}

// The parameters of main.cf that have policyd's tables.
const (
	policyMaps    = "smtp_tls_policy_maps"
	transportMaps = "transport_maps"
)

// splitTable returns the endpoint, such as inet:127.0.0.1:2526, and the map of a socketmap, "" for other tables.
func splitTable(table string) (endpoint, name string) {
	if rest, ok := strings.CutPrefix(strings.TrimPrefix(table, "proxy:"), "socketmap:"); ok {
		if i := strings.LastIndexByte(rest, ':'); i > 0 {
			return rest[:i], rest[i+1:]
		}
	}
	return "", ""
}

func socketmapTable(endpoint, name string) string { return "socketmap:" + endpoint + ":" + name }

// mapOf returns the map of policyd that the name of a socketmap stands for, "" for none.
func mapOf(table string) string {
	_, name := splitTable(table)
	return lookup.CanonicalMap(name)
}

// serves reports whether a table is, by its name, one of policyd's maps for a parameter.
func serves(table, parameter string) bool {
	name := mapOf(table)
	return name != "" && (name == "transport") == (parameter == transportMaps)
}

// isPattern reports whether a table matches the whole address by pattern.
func isPattern(table string) bool {
	return strings.HasPrefix(table, "regexp:") || strings.HasPrefix(table, "pcre:")
}
