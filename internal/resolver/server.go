package resolver

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
		if server.TLSName, rest, ok = strings.Cut(after, "@"); !ok || server.TLSName == "" {
			return wrong("the name in the server's certificate is missing")
		}
		port = 853
	}
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")); err == nil {
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
// not trusted, nothing is secure.
func (m TrustMode) trusts(servers []Server) bool {
	if m != TrustAuto {
		return m == TrustAlways
	}
	resolved := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 53}), netip.AddrFrom4([4]byte{127, 0, 0, 54})}
	for _, s := range servers {
		a := s.Addr.Addr().Unmap()
		if !a.IsLoopback() || slices.Contains(resolved, a) {
			return false
		}
	}
	return len(servers) > 0
}

func (s Server) tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{ServerName: s.TLSName, RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func (s Server) network(stream bool) string {
	if stream || s.TLSName != "" {
		return "tcp"
	}
	return "udp"
}
