package doctor

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
)

// commands returns the shell commands that change the installed configuration to l. Nothing that is right already is
// changed, so there are none when they have run.
func (d draft) commands(l Lines) []string {
	var all []string
	if slices.ContainsFunc(tables(d.parameter(l, "transport_maps")), func(t table) bool { return t.text == d.guard() }) {
		all = d.ownFile(l)
	}
	for _, p := range l.Parameters {
		if d.raw(p.Name) != p.Value && !slices.Equal(texts(d.raw(p.Name)), texts(p.Value)) {
			all = append(all, d.postconf("-e", p.Name+" = "+p.Value))
		}
	}
	for _, svc := range l.Services {
		all = append(all, d.serviceCommands(svc)...)
	}
	return all
}

func (d draft) parameter(l Lines, name string) string {
	for _, p := range l.Parameters {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// texts splits a list of tables, so that commas and spaces do not count as a difference.
func texts(value string) []string {
	var all []string
	for _, t := range tables(value) {
		all = append(all, t.text)
	}
	return all
}

// ownFile returns the commands that add the missing lines to transport_own.
func (d draft) ownFile(l Lines) []string {
	if len(l.Own) == 0 {
		return nil
	}
	path := d.directory + "/transport_own"
	text, _ := os.ReadFile(path)
	have := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		have[strings.Join(strings.Fields(line), " ")] = true
	}
	var missing []string
	for _, line := range l.Own {
		if !have[strings.Join(strings.Fields(line), " ")] {
			missing = append(missing, quoted(line))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []string{`printf '%s\n' ` + strings.Join(missing, " ") + " >> " + quoted(path)}
}

// serviceCommands returns the commands that make a service or correct it.
func (d draft) serviceCommands(want Service) []string {
	name, kind, _ := strings.Cut(want.Service, "/")
	svc := d.installed.service(name, kind)
	var all []string
	if svc == nil || svc.command != "smtp" {
		all = append(all, d.postconf("-M", want.Service+"="+want.Definition))
		svc = &service{options: map[string]string{}}
	} else if svc.chroot != d.chroot {
		all = append(all, d.postconf("-F", want.Service+"/chroot="+strings.Fields(want.Definition)[4]))
	}
	for _, p := range want.Parameters {
		has, set := svc.options[p.Name]
		good := set && has == p.Value
		switch p.Name {
		case "syslog_name", "smtp_connect_timeout", "smtp_starttls_timeout":
			good = set
		case "smtp_tls_security_level":
			good = slices.Contains(closedLevels(), has)
		}
		if !good {
			all = append(all, d.postconf("-P", want.Service+"/"+p.Name+"="+p.Value))
		}
	}
	return all
}

// closedLevels are the levels under which a service never sends over an unverified connection.
func closedLevels() []string { return []string{"secure", "dane-only", "fingerprint"} }

func (d draft) postconf(option, argument string) string { return d.installed.edit(option, argument) }

// edit returns a shell command that edits the configuration.
func (s *setup) edit(option, argument string) string {
	command := "postconf"
	if dir := s.commands.ConfigDirectory; dir != "" {
		command += " -c " + quoted(dir)
	}
	return command + " " + option + " " + quoted(argument)
}

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

// Remove returns the way back for the installed Postfix.
func Remove(ctx context.Context, o LinesOptions) (Removal, error) {
	o.Version = ""
	d, err := draftFor(ctx, o)
	if err != nil && !errors.Is(err, ErrTooOld) {
		return Removal{}, err
	}
	r := Removal{Directory: d.directory, Commands: []string{}, Kept: []string{}, Hidden: []string{}}
	for parameter, names := range map[string][]string{"smtp_tls_policy_maps": tlsNames(), "transport_maps": {"transport"}} {
		d.removeTable(&r, parameter, names)
	}
	slices.Sort(r.Commands) // the maps of a Go program have no order
	if svc := d.installed.service(d.transport, "unix"); svc != nil && svc.command == "smtp" {
		r.Commands = append(r.Commands, d.postconf("-MX", d.transport+"/unix"))
	}
	if len(r.Commands) > 0 {
		for _, name := range []string{"smtp_dns_support_level", "smtp_tls_dane_insecure_mx_policy", "smtp_mx_address_limit", "smtp_tls_security_level", "smtp_tls_loglevel"} {
			r.Kept = append(r.Kept, name+" = "+d.raw(name))
		}
	}
	return r, nil
}

// removeTable takes policyd's tables, and the guard that was there for them, out of a parameter.
func (d draft) removeTable(r *Removal, parameter string, names []string) {
	var kept []string
	found := false
	for _, t := range tables(d.raw(parameter)) {
		if d.ours(t, names) {
			found = true
		} else if parameter != "transport_maps" || !d.isGuard(t) {
			kept = append(kept, t.text)
		}
	}
	switch {
	case found && len(kept) == 0:
		r.Commands = append(r.Commands, d.postconf("-X", parameter))
	case found:
		r.Commands = append(r.Commands, d.postconf("-e", parameter+" = "+strings.Join(kept, ", ")))
	case slices.ContainsFunc(tables(d.expanded(parameter)), func(t table) bool { return d.ours(t, names) }):
		r.Hidden = append(r.Hidden, parameter+" = "+d.raw(parameter))
	}
}

// guardEntry matches an entry of an inline table that has ":" as its result, which means "as without this table".
var guardEntry = regexp.MustCompile(`^\{/@[^ ]*/\s+:\s*\}$`)

// isGuard reports whether a table only keeps the domains of this site from policyd.
func (d draft) isGuard(t table) bool {
	if t.text == "regexp:"+d.directory+"/transport_own" {
		return true
	}
	inside, inline := strings.CutPrefix(t.text, "regexp:{")
	if !inline {
		return false
	}
	for _, entry := range tables(strings.TrimSuffix(inside, "}")) {
		if !guardEntry.MatchString(entry.text) {
			return false
		}
	}
	return true
}
