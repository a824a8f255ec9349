package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/postfix"
)

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
// installed, its other tables and settings are kept. The error is ErrTooOld, or that there is neither a Postfix nor a
// version.
func MakeLines(ctx context.Context, o Options) (Lines, error) {
	p, err := planFor(ctx, o)
	if err == nil && !p.version.since(4, 0) {
		err = fmt.Errorf("this is %s: %w", p.version, ErrTooOld)
	}
	if err != nil {
		return Lines{}, err
	}
	l := Lines{
		Postfix: string(p.version), Directory: p.directory, Parameters: p.parameters(),
		Master: []string{}, Services: []Service{}, Commands: []string{},
	}
	for _, parameter := range l.Parameters {
		l.Main = append(l.Main, parameter.lines()...)
	}
	if p.route {
		svc := p.wantedService()
		l.Services, l.Master = append(l.Services, svc), svc.lines()
		if !p.inlineTables() {
			for _, own := range p.own {
				l.Own = append(l.Own, own+"    :")
			}
		}
	}
	if p.installed() && o.Version == "" {
		l.Commands = append(l.Commands, p.changes(l)...)
	}
	return l, nil
}

// lines returns the lines of a parameter in main.cf. transport_maps has one table per line.
func (p Parameter) lines() []string {
	if p.Name != transportMaps {
		return []string{p.Name + " = " + p.Value}
	}
	lines := []string{p.Name + " ="}
	for _, table := range postfix.Tokens(p.Value) {
		entries, inline := inlineEntries(table)
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

// changes returns the shell commands that change the installed configuration to l. Nothing that is right already is
// changed, so there are none when they have run.
func (p plan) changes(l Lines) []string {
	var all []string
	for _, parameter := range l.Parameters {
		has, wants := postfix.Tokens(p.raw[parameter.Name]), postfix.Tokens(parameter.Value)
		if parameter.Name == transportMaps && slices.Contains(wants, p.guardFile()) {
			all = append(p.ownFile(), all...)
		}
		if !slices.Equal(has, wants) { // commas and spaces do not count
			all = append(all, p.set(parameter.Name, parameter.Value))
		}
	}
	for _, svc := range l.Services {
		all = append(all, p.serviceCommands(svc)...)
	}
	return all
}

// ownFile returns the commands that add the missing patterns to transport_own.
func (p plan) ownFile() []string {
	path := p.directory + "/transport_own"
	text, _ := os.ReadFile(path)
	var missing []string
	for _, own := range p.own {
		if !slices.Contains(strings.Fields(string(text)), own) {
			missing = append(missing, quoted(own+"    :"))
		}
	}
	if missing == nil {
		return nil
	}
	return []string{`printf '%s\n' ` + strings.Join(missing, " ") + " >> " + quoted(path)}
}

// serviceCommands returns the commands that make a service or correct it.
func (p plan) serviceCommands(want Service) []string {
	var all []string
	isNew := p.program(want.Service) != "smtp"
	if isNew {
		all = append(all, p.edit("-M", want.Service+"="+want.Definition))
	} else if p.chrooted(want.Service) != p.chrooted(smtp) {
		all = append(all, p.edit("-F", want.Service+"/chroot="+p.chrootColumn()))
	}
	for _, r := range serviceRules(p.transport) {
		option := want.Service + "/" + r.Name
		if value, set := p.params[option]; isNew || !set || !r.accepts(value) {
			all = append(all, p.edit("-P", option+"="+r.Value))
		}
	}
	return all
}

// Removal has the shell commands that remove policyd from the configuration of Postfix.
type Removal struct {
	Directory string `json:"config_directory"`
	// Commands are empty if Postfix does not use policyd.
	Commands []string `json:"commands"`
	// Kept are the parameters that policyd needed and that do no harm without it.
	Kept []string `json:"kept"`
	// Hidden are the parameters whose value comes from a $name that Commands cannot edit.
	Hidden []string `json:"hidden"`
}

// Remove returns the way back for the installed Postfix.
func Remove(ctx context.Context, o Options) (Removal, error) {
	o.Version = ""
	p, err := planFor(ctx, o)
	if err != nil {
		return Removal{}, err
	}
	r := Removal{Directory: p.directory, Commands: []string{}, Kept: []string{}, Hidden: []string{}}
	for _, parameter := range []string{policyMaps, transportMaps} {
		ours := func(t string) bool { return p.isOurs(t, parameter) }
		all := postfix.Tokens(p.raw[parameter])
		kept := slices.DeleteFunc(slices.Clone(all), func(t string) bool {
			return ours(t) || parameter == transportMaps && p.isGuard(t) // the guard was there for policyd
		})
		switch {
		case slices.ContainsFunc(all, ours):
			r.Commands = append(r.Commands, p.set(parameter, strings.Join(kept, ", ")))
		case slices.ContainsFunc(postfix.Tokens(p.params[parameter]), ours):
			r.Hidden = append(r.Hidden, parameter+" = "+p.raw[parameter])
		}
	}
	if service := p.transport + "/unix"; p.program(service) == "smtp" {
		r.Commands = append(r.Commands, p.edit("-MX", service))
	}
	if len(r.Commands) > 0 {
		for _, rule := range writtenRules() {
			r.Kept = append(r.Kept, rule.Name+" = "+p.raw[rule.Name])
		}
	}
	return r, nil
}

// emptyEntry matches an entry of an inline table that has ":" as its result, which means "as without this table".
var emptyEntry = regexp.MustCompile(`^\{/@[^ ]*/\s+:\s*\}$`)

// isGuard reports whether a table only keeps the domains of this site from policyd.
func (p plan) isGuard(table string) bool {
	entries, inline := inlineEntries(table)
	other := func(entry string) bool { return !emptyEntry.MatchString(entry) }
	return table == p.guardFile() || inline && !slices.ContainsFunc(entries, other)
}
