package doctor

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/postfix"
)

// changes returns the shell commands that change the installed configuration to l. They do not change what is already
// right, so there are none after they have run.
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
	if p.routes() {
		all = append(all, p.serviceCommands()...)
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
			missing = append(missing, quoted(fileEntry(own)))
		}
	}
	if missing == nil {
		return nil
	}
	return []string{`printf '%s\n' ` + strings.Join(missing, " ") + " >> " + quoted(path)}
}

// serviceCommands returns the commands that create or correct the service for implicit TLS.
func (p plan) serviceCommands() []string {
	var all []string
	want := p.wantedService()
	isNew := p.params.Program(want.Service) != "smtp"
	if isNew {
		all = append(all, p.edit("-M", want.Service+"="+want.Definition))
	} else if p.params.Chrooted(want.Service) != p.params.Chrooted(smtp) {
		all = append(all, p.edit("-F", want.Service+"/chroot="+p.chrootColumn()))
	}
	for _, r := range serviceRules(p.Settings.Port26.Transport) {
		option := want.Service + "/" + r.Name
		if value, set := p.params[option]; isNew || !set || !r.accepts(value) {
			all = append(all, p.edit("-P", option+"="+r.Value))
		}
	}
	return all
}

// edit returns a shell command that edits the configuration.
func (p plan) edit(option, argument string) string {
	command := "postconf "
	if dir := p.commands.ConfigDirectory; dir != "" {
		command += "-c " + quoted(dir) + " "
	}
	return command + option + " " + quoted(argument)
}

// set returns a shell command that changes a parameter of main.cf.
func (p plan) set(name, value string) string {
	return p.edit("-e", strings.TrimSpace(name+" = "+value))
}

// correction returns a shell command that corrects the tables in a parameter. A guard in a file needs further commands.
func (p plan) correction(parameter string) string {
	if parameter == transportMaps && !p.params.InlineTables() {
		return correct
	}
	return p.set(parameter, p.wanted(parameter))
}

// correct is the shell command that makes all changes of postfix-config.
const correct = "policyd postfix-config --commands | sh"

// quoted quotes an argument for the shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

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

// Remove returns the commands that remove policyd from the installed Postfix.
func Remove(ctx context.Context, o Options) (Removal, error) {
	p, err := newPlan(ctx, o)
	if err != nil {
		return Removal{}, err
	}
	r := Removal{Directory: p.directory, Commands: []string{}, Kept: []string{}, Hidden: []string{}}
	for _, parameter := range []string{policyMaps, transportMaps} {
		ours := func(t table) bool { return t.ours }
		switch {
		case slices.ContainsFunc(p.tables(parameter, p.raw[parameter]), ours):
			r.Commands = append(r.Commands, p.set(parameter, p.without(parameter)))
		case slices.ContainsFunc(p.tables(parameter, p.params[parameter]), ours):
			r.Hidden = append(r.Hidden, parameter+" = "+p.raw[parameter])
		}
	}
	if p.params.Program(p.service()) == "smtp" {
		r.Commands = append(r.Commands, p.edit("-MX", p.service()))
	}
	if len(r.Commands) > 0 {
		for _, rule := range writtenRules() {
			r.Kept = append(r.Kept, rule.Name+" = "+p.raw[rule.Name])
		}
	}
	return r, nil
}

// without returns the list of tables for a parameter, unexpanded, without those of policyd and without the guard, which
// only policyd needs.
func (p plan) without(parameter string) string {
	return join(slices.DeleteFunc(p.tables(parameter, p.raw[parameter]), func(t table) bool {
		return t.ours || parameter == transportMaps && p.isGuard(t.text)
	}))
}

// emptyEntry matches an entry of an inline table that has ":" as its result, which means "as without this table".
var emptyEntry = regexp.MustCompile(`^\{/@[^ ]*/\s+:\s*\}$`)

// isGuard reports whether a table only keeps the domains of this site from policyd.
func (p plan) isGuard(table string) bool {
	entries, inline := postfix.InlineEntries(table)
	other := func(entry string) bool { return !emptyEntry.MatchString(entry) }
	return table == p.guardFile() || inline && !slices.ContainsFunc(entries, other)
}
