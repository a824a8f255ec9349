package settings

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// listenerConflicts returns a warning for each listener that cannot be opened beside an earlier one. None is a mistake,
// because systemd may pass other listeners in place of server.listen, and policyd tries to open the rest again.
func (l *Loaded) listenerConflicts() (warnings []string) {
	type listener struct{ key, address string }
	var all []listener
	for _, address := range l.Server.Listen {
		all = append(all, listener{"server.listen", address})
	}
	all = append(all, listener{"admin.socket", "unix:" + l.Admin.Socket}, listener{"http.listen", l.HTTP.Listen},
		listener{"metrics.listen", l.Metrics.Listen})
	for i, later := range all {
		for _, earlier := range all[:i] {
			if earlier != later && collide(earlier.address, later.address) { // equal ones are reported already
				warnings = append(warnings, later.key+": "+strings.TrimPrefix(later.address, "unix:")+
					" cannot be opened beside "+strings.TrimPrefix(earlier.address, "unix:")+" in "+earlier.key)
				break
			}
		}
	}
	return warnings
}

// collide reports whether only one of two listeners can be opened. Of host names, only localhost is known.
func collide(a, b string) bool {
	pathA, isPathA := strings.CutPrefix(a, "unix:")
	pathB, isPathB := strings.CutPrefix(b, "unix:")
	if isPathA || isPathB {
		return isPathA && isPathB && filepath.Clean(pathA) == filepath.Clean(pathB)
	}
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" { // an invalid address has no listener
		return false
	}
	addrA, addrB := listenAddr(hostA), listenAddr(hostB)
	switch {
	case hostA == hostB, addrA.IsValid() && addrA == addrB:
		return true
	default:
		// Go opens a listener at 0.0.0.0 or at [::] for both address families.
		return addrA.IsUnspecified() || addrB.IsUnspecified()
	}
}

// listenAddr returns the address that a listener at a host is opened at; it is not valid if the host is a name.
func listenAddr(host string) netip.Addr {
	switch host {
	case "":
		return netip.IPv6Unspecified()
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap()
}
