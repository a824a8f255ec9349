package stub

import (
	"fmt"
	"net/netip"
	"strings"
)

// Server is a recursive resolver to ask.
type Server struct {
	Addr netip.AddrPort
	// TLSName is the name that the server's certificate must have, for DNS over TLS (RFC 7858); "" for
	// plain DNS.
	TLSName string
}

// String returns the server in the form of the settings.
func (s Server) String() string {
	if s.TLSName != "" {
		return "tls://" + s.TLSName + "@" + s.Addr.String()
	}
	return s.Addr.String()
}

// ParseServer reads a server in the form of the settings: an address, an address and port, or tls://name@address:port.
// The port is 53, or 853 for TLS, unless given.
func ParseServer(s string) (Server, error) {
	wrong := func(why string) (Server, error) {
		const forms = `"127.0.0.1", "127.0.0.1:5300", "[::1]:53" or "tls://name@192.0.2.1:853"`
		return Server{}, fmt.Errorf("%q is not a DNS server (%s): write %s", s, why, forms)
	}
	var server Server
	rest, port := s, "53"
	if after, ok := strings.CutPrefix(s, "tls://"); ok {
		name, at, _ := strings.Cut(after, "@")
		if server.TLSName = name; !isTLSName(name) {
			return wrong("the name in the server's certificate is missing or is not a host name")
		}
		rest, port = at, "853"
	}
	// A whole IPv6 address followed by what looks like a port is an IPv6 address too.
	if i := strings.LastIndexByte(rest, ':'); i > 0 && i < len(rest)-2 && rest[i+1] != '0' {
		withPort := "[" + rest[:i] + "]" + rest[i:]
		if _, err := netip.ParseAddrPort(withPort); err == nil {
			scheme := strings.TrimSuffix(s, rest)
			return Server{}, fmt.Errorf(`%q needs brackets: write "%s%s" or "%s[%s]"`, s, scheme, withPort, scheme, rest)
		}
	}
	for _, form := range []string{rest, rest + ":" + port, "[" + rest + "]:" + port} {
		var err error
		if server.Addr, err = netip.ParseAddrPort(form); err == nil {
			break
		}
	}
	a := server.Addr.Addr()
	switch {
	case server.Addr.Port() == 0:
		return wrong("an IP address is needed, and its port is 1 to 65535")
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		return wrong("not the address of one machine; a link-local one needs its interface, as in fe80::1%eth0")
	}
	return server, nil
}

// isTLSName reports whether a certificate can have the name: a host name or an address.
func isTLSName(name string) bool {
	const longest = 253
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:"
	return name != "" && len(name) <= longest && name[0] != '.' && strings.Trim(name, letters) == ""
}

// TrustMode determines when the AD bit of the servers is trusted.
type TrustMode string

// The trust modes. TrustAuto, also written "", trusts 127.0.0.1 and ::1, and other loopback addresses that are
// written in the settings, but never the addresses of known relays.
const (
	TrustAuto   TrustMode = "auto"
	TrustAlways TrustMode = "always"
	TrustNever  TrustMode = "never"
)

// trusts reports whether the AD bit of the servers is trusted, and if not, why. Trust is one property of the whole
// list: if one server is not trusted, nothing is secure. RFC 4035 section 4.9.3 requires a secure channel to a
// trusted resolver, and a relay on loopback only hides where the resolver is.
func (o *Options) trusts(servers []Server) (yes bool, reason string) {
	switch o.Trust {
	case TrustAuto, "":
	case TrustAlways:
		return len(servers) > 0, ""
	default:
		return false, `trust_ad = "never"`
	}
	for _, s := range servers {
		if reason := distrust(s.Addr.Addr().Unmap(), len(o.Servers) > 0); reason != "" {
			return false, s.String() + " " + reason
		}
	}
	return len(servers) > 0, ""
}

// distrust returns why trust_ad = "auto" does not trust a server at that address, or "". Written means that the address
// is in [dns] servers.
func distrust(a netip.Addr, written bool) string {
	switch a.String() {
	case "127.0.0.1", "::1":
		return ""
	case "127.0.0.11":
		return "is Docker's relay to a resolver elsewhere, and the way there is not secure"
	case "127.0.0.53", "127.0.0.54":
		return "is systemd-resolved, which does not validate reliably"
	}
	switch {
	case !a.IsLoopback():
		return "is not a resolver on loopback"
	case !written:
		return "is neither 127.0.0.1 nor ::1: write it in [dns] servers if it is a validating resolver on this machine"
	}
	return ""
}
