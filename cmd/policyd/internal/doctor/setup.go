package doctor

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// smtp is the client service for ordinary mail.
const smtp = "smtp/unix"

// chrooted reads the fifth column of master.cf, whose default depends on the compatibility level (master(5)).
func (p plan) chrooted(service string) bool {
	column := p.params[service+"/chroot"]
	level, _ := strconv.ParseFloat(p.params["compatibility_level"], 64)
	return column == "y" || column == "-" && level < 1
}

// program returns the program of a service; "" means that there is no such service.
func (p plan) program(service string) string {
	name, _, _ := strings.Cut(p.params[service+"/command"], " ")
	return name
}

// overrides returns the services that set a parameter themselves.
func (p plan) overrides(parameter string) (services []string) {
	for _, name := range slices.Sorted(maps.Keys(p.params)) {
		if service, ok := strings.CutSuffix(name, "/"+parameter); ok {
			services = append(services, service)
		}
	}
	return services
}

func (p plan) mainCF() string   { return filepath.Join(p.directory, "main.cf") }
func (p plan) masterCF() string { return filepath.Join(p.directory, "master.cf") }

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

// correct is the shell command that makes all changes of postfix-config.
const correct = "policyd postfix-config --commands | sh"

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
