package postfix

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Settings are the lines "name = value" that postconf(1) prints. With -x, all $names are expanded. With -P, they are
// the parameters that services in master.cf set themselves, such as smtp/unix/relayhost; with -F, the columns of
// master.cf, such as smtp/unix/chroot.
type Settings map[string]string

// Of returns a parameter as a service, such as smtp/unix, has it.
func (s Settings) Of(service, name string) string {
	if value, ok := s[service+"/"+name]; ok {
		return value
	}
	return s[name]
}

// Overriding returns the services that set a parameter themselves, in alphabetical order.
func (s Settings) Overriding(parameter string) (services []string) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if service, ok := strings.CutSuffix(name, "/"+parameter); ok {
			services = append(services, service)
		}
	}
	return services
}

// Program returns the program of a service; "" means that there is no such service.
func (s Settings) Program(service string) string {
	name, _, _ := strings.Cut(s[service+"/command"], " ")
	return name
}

// Chrooted reports whether a service runs in the queue directory. It reads the fifth column of master.cf, whose default
// depends on the compatibility level (master(5)).
func (s Settings) Chrooted(service string) bool {
	column := s[service+"/chroot"]
	level, _ := strconv.ParseFloat(s["compatibility_level"], 64)
	return column == "y" || column == "-" && level < 1
}

// Since reports whether this is Postfix 3.minor.patch or later. A version looks like 3.7, 3.10.2 or, for a snapshot,
// 3.12-20260101; any other text counts as older than all of them.
func (s Settings) Since(minor, patch int) bool {
	var parts [3]int
	_, _ = fmt.Sscanf(s["mail_version"], "%d.%d.%d", &parts[0], &parts[1], &parts[2]) // a missing part is 0
	return slices.Compare(parts[:], []int{3, minor, patch}) >= 0
}

// InlineTables reports whether this version has inline tables of regular expressions, regexp:{ ... } (postconf(5)).
func (s Settings) InlineTables() bool { return s.Since(7, 0) }
