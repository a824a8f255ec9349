package stub

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Server is a recursive resolver to ask.
type Server struct {
	Addr netip.AddrPort
	// TLSName is the name that the server's certificate must have, for DNS over TLS (RFC 7858); "" for
	// plain DNS.
	TLSName string
}

// String returns the server as the settings have it.
func (s Server) String() string {
	if s.TLSName != "" {
		return "tls://" + s.TLSName + "@" + s.Addr.String()
	}
	return s.Addr.String()
}

// ParseServer reads a server as the settings have it: an address, an address and port, or
// tls://name@address:port. The port is 53, or 853 for TLS, unless given.
func ParseServer(s string) (Server, error) {
	wrong := func(why string) (Server, error) {
		return Server{}, fmt.Errorf(`%q is not a DNS server (%s): write "127.0.0.1", "127.0.0.1:5300", "[::1]:53" or "tls://name@192.0.2.1:853"`, s, why)
	}
	var server Server
	rest, port := s, uint16(53)
	if after, ok := strings.CutPrefix(s, "tls://"); ok {
		name, at, _ := strings.Cut(after, "@")
		if server.TLSName = name; !isTLSName(name) {
			return wrong("the name in the server's certificate is missing or is no host name")
		}
		rest, port = at, 853
	}
	bare := rest
	if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
		bare = rest[1 : len(rest)-1]
	}
	if addr, err := netip.ParseAddr(bare); err == nil && (bare == rest || addr.Is6()) {
		server.Addr = netip.AddrPortFrom(addr, port)
		return server, nil
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil {
		return wrong("an IP address is needed")
	}
	if ap.Port() == 0 {
		return wrong("port 0")
	}
	server.Addr = ap
	return server, nil
}

// isTLSName says whether a certificate can have the name: a host name or an address.
func isTLSName(name string) bool {
	const longest = 253
	return name != "" && len(name) <= longest && !strings.HasPrefix(name, ".") && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._:", r)
	})
}

// TrustMode says when the AD bit of the servers is believed.
type TrustMode uint8

// The trust modes. TrustAuto believes a list of which every server is on loopback, and none is
// systemd-resolved, which up to version 256.5 copies the AD bit of its upstream.
const (
	TrustAuto TrustMode = iota
	TrustAlways
	TrustNever
)

func trustModes() []string { return []string{"auto", "always", "never"} }

// String returns the mode as the settings have it.
func (m TrustMode) String() string { return trustModes()[min(int(m), 2)] }

// MarshalText implements encoding.TextMarshaler.
func (m TrustMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes auto, always or never.
func (m *TrustMode) UnmarshalText(b []byte) error {
	i := slices.Index(trustModes(), string(b))
	if i < 0 {
		return fmt.Errorf("%q is none of %s", b, strings.Join(trustModes(), ", "))
	}
	*m = TrustMode(i)
	return nil
}

// trusts says whether the AD bit may be believed. Trust is one property of the whole list: if one server is
// not trusted, nothing is secure. The reason says why not.
func (m TrustMode) trusts(servers []Server) (yes bool, reason string) {
	switch {
	case m == TrustAlways:
		return len(servers) > 0, ""
	case m != TrustAuto:
		return false, `trust_ad = "never"`
	}
	resolved := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 53}), netip.AddrFrom4([4]byte{127, 0, 0, 54})}
	for _, s := range servers {
		switch a := s.Addr.Addr().Unmap(); {
		case !a.IsLoopback():
			return false, s.String() + " is not a resolver on loopback"
		case slices.Contains(resolved, a):
			return false, s.String() + " is systemd-resolved, which does not validate reliably"
		}
	}
	return len(servers) > 0, ""
}

func (s Server) tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{ServerName: s.TLSName, RootCAs: roots, MinVersion: tls.VersionTLS12}
}
