package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/postfix"
)

// Lines is the configuration that Postfix needs for policyd. The JSON form is stable: fields are only added.
type Lines struct {
	// Postfix is the installed version, and Directory is where its configuration files are.
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
	// Commands change the installed configuration, where it differs, to what is needed.
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

// MakeLines returns the configuration for the installed Postfix, whose other tables and settings are kept, and the
// listeners of policyd. It returns an error if there is no Postfix, or if it is too old.
func MakeLines(ctx context.Context, o Options) (Lines, error) {
	p, err := newPlan(ctx, o)
	if err != nil {
		return Lines{}, err
	}
	if !p.params.Since(4, 0) {
		return Lines{}, fmt.Errorf("this is %s: policyd needs Postfix 3.4 or later", p.version)
	}
	l := Lines{
		Postfix: p.version, Directory: p.directory, Parameters: p.parameters(),
		Master: []string{}, Services: []Service{}, Commands: []string{},
	}
	for _, parameter := range l.Parameters {
		l.Main = append(l.Main, parameter.lines()...)
	}
	if p.routes() {
		svc := p.wantedService()
		l.Services, l.Master = append(l.Services, svc), svc.lines()
		if !p.params.InlineTables() {
			for _, own := range p.own {
				l.Own = append(l.Own, fileEntry(own))
			}
		}
	}
	l.Commands = append(l.Commands, p.changes(l)...)
	return l, nil
}

// lines returns the lines of a parameter in main.cf. transport_maps has one table per line.
func (p Parameter) lines() []string {
	if p.Name != transportMaps {
		return []string{p.Name + " = " + p.Value}
	}
	lines := []string{p.Name + " ="}
	for _, table := range postfix.Tokens(p.Value) {
		entries, inline := postfix.InlineEntries(table)
		if !inline {
			lines = append(lines, "    "+table)
			continue
		}
		lines = append(lines, "    regexp:{")
		for _, entry := range entries {
			lines = append(lines, "        "+entry)
		}
		lines = append(lines, "    }")
	}
	return lines
}

// lines returns the lines of a service in master.cf.
func (s Service) lines() []string {
	f := strings.Fields(s.Definition)
	lines := []string{fmt.Sprintf("%-9s unix  -       -       %s       -       -       smtp", f[0], f[4])}
	for _, p := range s.Parameters {
		lines = append(lines, "  -o "+p.Name+"="+p.Value)
	}
	return lines
}
