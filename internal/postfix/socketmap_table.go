package postfix

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// An endpoint is where Postfix finds a socketmap server (socketmap_table(5)): inet:host:port, or unix:path. A path that
// does not begin with / is in the queue directory.

// SocketmapTable returns the table that asks for a map at an endpoint.
func SocketmapTable(endpoint, name string) string { return "socketmap:" + endpoint + ":" + name }

// ParseSocketmap returns the endpoint and the map of a table, "" for both if the table is not a socketmap.
func ParseSocketmap(table string) (endpoint, name string) {
	rest, isSocketmap := strings.CutPrefix(strings.TrimPrefix(table, "proxy:"), "socketmap:")
	if i := strings.LastIndexByte(rest, ':'); isSocketmap && i > 0 {
		return rest[:i], rest[i+1:]
	}
	return "", ""
}

// Endpoint returns the endpoint of a server that listens at host:port or unix:/path. A server that listens at all
// addresses is reached over loopback.
func (s Settings) Endpoint(listener string) string {
	if path, unix := strings.CutPrefix(listener, "unix:"); unix {
		if inside, err := filepath.Rel(s["queue_directory"], path); err == nil && filepath.IsLocal(inside) {
			return "unix:" + inside
		}
		return listener
	}
	host, port, _ := net.SplitHostPort(listener) // the caller has checked it
	switch {
	case host == "::", host == "" && s["inet_protocols"] == "ipv6":
		host = "::1"
	case host == "", host == "0.0.0.0":
		host = "127.0.0.1"
	}
	return "inet:" + net.JoinHostPort(host, port)
}

// Outside returns an endpoint as a process outside the queue directory reaches it.
func (s Settings) Outside(endpoint string) string {
	if path, unix := strings.CutPrefix(endpoint, "unix:"); unix && !filepath.IsAbs(path) {
		return "unix:" + filepath.Join(s["queue_directory"], path)
	}
	return endpoint
}

// Barred reports whether one of the services cannot connect to an endpoint: a path that chrooted processes do not see,
// or an address of a family that inet_protocols excludes.
func (s Settings) Barred(endpoint string, services ...string) bool {
	if path, unix := strings.CutPrefix(endpoint, "unix:"); unix {
		return filepath.IsAbs(path) && slices.ContainsFunc(services, s.Chrooted)
	}
	host, _, _ := net.SplitHostPort(strings.TrimPrefix(endpoint, "inet:"))
	a, _ := netip.ParseAddr(host)
	only := s["inet_protocols"]
	return a.Is4() && only == "ipv6" || a.Is6() && only == "ipv4"
}
