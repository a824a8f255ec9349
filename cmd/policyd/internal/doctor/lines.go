package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// LinesOptions select the Postfix that lines are made for.
type LinesOptions struct {
	Settings *settings.Loaded
	// Version is the version of Postfix; "" means the installed one.
	Version string
	// Postconf and ConfigDirectory select a Postfix; "" means the installed one.
	Postconf, ConfigDirectory string
}

// Lines is the configuration that Postfix needs for policyd. The JSON form is stable: fields are only added.
type Lines struct {
	// Postfix is the version that the lines are for, and Directory is where its configuration files are.
	Postfix   string `json:"postfix"`
	Directory string `json:"config_directory"`
	// Main and Master are the lines for main.cf and master.cf.
	Main   []string `json:"main_cf"`
	Master []string `json:"master_cf"`
	// Own is the content of transport_own, a file that Postfix before 3.7 needs beside main.cf.
	Own []string `json:"transport_own,omitempty"`
	// Parameters and Services are the same as Main and Master in parts, for tools such as Ansible.
	Parameters []Parameter `json:"parameters"`
	Services   []Service   `json:"services"`
	// Commands change the installed configuration, where it differs, to what is needed. They are empty if nothing
	// differs or no Postfix is installed.
	Commands []string `json:"commands"`
}

// Parameter is a parameter of main.cf, or of a service in master.cf, with its unexpanded value.
type Parameter struct {
	Name  string `json:"parameter"`
	Value string `json:"value"`
}

// Service is a service of master.cf.
type Service struct {
	// Service is its name and type, as in smtps26/unix.
	Service string `json:"service"`
	// Definition is its line in master.cf, without options.
	Definition string      `json:"definition"`
	Parameters []Parameter `json:"parameters"`
}

// ErrTooOld is returned for a Postfix that cannot use policyd.
var ErrTooOld = errors.New("policyd needs Postfix 3.4 or later")

// MakeLines returns the configuration for a version of Postfix and the listeners of policyd. Where Postfix is
// installed, its other tables and settings are kept. The error is ErrTooOld, an invalid version, or that there is neither a
// Postfix nor a version.
func MakeLines(ctx context.Context, o LinesOptions) (Lines, error) {
	d, err := draftFor(ctx, o)
	if err != nil {
		return Lines{}, err
	}
	l := Lines{Postfix: d.version.text, Directory: d.directory, Parameters: d.parameters(), Services: d.services(), Commands: []string{}}
	for _, p := range l.Parameters {
		l.Main = append(l.Main, d.format(p)...)
	}
	l.Master = []string{}
	for _, svc := range l.Services {
		l.Master = append(l.Master, svc.lines()...)
	}
	if d.route && !inlineTables(d.version) {
		for _, p := range d.own {
			l.Own = append(l.Own, p+"    :")
		}
	}
	if d.installed != nil && o.Version == "" {
		l.Commands = append(l.Commands, d.commands(l)...)
	}
	return l, nil
}

// format returns the lines of a parameter in main.cf. transport_maps has one table per line.
func (d draft) format(p Parameter) []string {
	if p.Name != "transport_maps" {
		return []string{p.Name + " = " + p.Value}
	}
	lines := []string{p.Name + " ="}
	for _, t := range tables(p.Value) {
		if t.text != d.inlineGuard() {
			lines = append(lines, "    "+t.text)
			continue
		}
		lines = append(lines, "    regexp:{")
		for _, line := range d.guardEntries() {
			lines = append(lines, "        "+line)
		}
		lines = append(lines, "    }")
	}
	return lines
}

// lines returns the lines of a service in master.cf.
func (s Service) lines() []string {
	f := strings.Fields(s.Definition)
	lines := []string{fmt.Sprintf("%-9s %-5s %-7s %-7s %-7s %-7s %-7s %s", f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7])}
	for _, p := range s.Parameters {
		lines = append(lines, "  -o "+p.Name+"="+p.Value)
	}
	return lines
}

// serviceFor returns the service for implicit TLS.
func serviceFor(name string, chroot bool) Service {
	column := "n"
	if chroot {
		column = "y"
	}
	return Service{
		Service: name + "/unix", Definition: name + " unix - - " + column + " - - smtp",
		Parameters: []Parameter{
			{"syslog_name", "postfix/" + name},
			{"smtp_tls_wrappermode", "yes"},
			{"smtp_tls_security_level", "secure"},
			{"smtp_connect_timeout", "10s"},
			{"smtp_starttls_timeout", "30s"},
			{"smtp_fallback_relay", ""},
		},
	}
}

// CheckVersion returns an error for a text that is neither empty nor a version of Postfix.
func CheckVersion(text string) error {
	if text == "" {
		return nil
	}
	_, err := parseVersion(text)
	return err
}
