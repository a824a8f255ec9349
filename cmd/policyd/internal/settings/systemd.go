package settings

import (
	"slices"
	"strings"
)

// UnusedListen returns a warning if the file sets server.listen to addresses that are not among those that systemd
// passes, which replace them, or if there are no addresses at all. passed is empty if systemd passes none.
func (l *Loaded) UnusedListen(passed []string) []string {
	rest := slices.DeleteFunc(slices.Clone(l.Server.Listen), func(a string) bool { return slices.Contains(passed, a) })
	switch {
	case len(l.Server.Listen)+len(passed) == 0:
		return []string{"server.listen: the list is empty, so policyd does not start without listeners from systemd"}
	case l.lines["server.listen"] == 0 || len(passed) == 0 || len(rest) == 0:
		return nil
	}
	return []string{"server.listen: " + strings.Join(rest, ", ") +
		" is not used, because systemd passes the listeners of policyd.socket: " +
		`use "systemctl edit policyd.socket", or mask policyd.socket and restart policyd.service`}
}
