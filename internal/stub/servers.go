package stub

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/policyd/policyd/internal/regfile"
)

// Server is a recursive resolver to ask.
type Server struct {
	Addr    netip.AddrPort
	TLSName string // the name in its certificate, for DNS over TLS (RFC 7858); "" for plain DNS
}

// String returns the server in the form of the settings.
func (s Server) String() string {
	if s.TLSName != "" {
		return "tls://" + s.TLSName + "@" + s.Addr.String()
	}
	return s.Addr.String()
}

func names(servers []Server) (list []string) {
	for _, s := range servers {
		list = append(list, s.String())
	}
	return list
}

// ParseServer reads a server in the form of the settings: an address, an address and port, or tls://name@address:port.
// The port is 53, or 853 for TLS, unless given.
func ParseServer(s string) (Server, error) {
	rest, port, name := s, "53", ""
	after, overTLS := strings.CutPrefix(s, "tls://")
	if overTLS {
		name, rest, _ = strings.Cut(after, "@")
		port = "853"
	}
	// A whole IPv6 address followed by what looks like a port is an IPv6 address too.
	if i := strings.LastIndexByte(rest, ':'); i > 0 && i < len(rest)-2 && rest[i+1] != '0' {
		withPort := "[" + rest[:i] + "]" + rest[i:]
		if _, err := netip.ParseAddrPort(withPort); err == nil {
			scheme := strings.TrimSuffix(s, rest)
			return Server{}, fmt.Errorf(`%q needs brackets: write "%s" or "%s[%s]"`, s, scheme+withPort, scheme, rest)
		}
	}
	for _, form := range []string{rest, rest + ":" + port, "[" + rest + "]:" + port} {
		addr, err := netip.ParseAddrPort(form)
		if err == nil && addr.Port() > 0 && oneMachine(addr.Addr()) && (!overTLS || validTLSName(name)) {
			return Server{addr, name}, nil
		}
	}
	return Server{}, fmt.Errorf("%q is not a DNS server (the address of one machine, and a port of 1 to 65535): write "+
		`"127.0.0.1", "127.0.0.1:5300", "[::1]:53", "fe80::1%%eth0" or "tls://name@192.0.2.1:853"`, s)
}

// oneMachine reports whether an address can be that of one machine. A link-local one needs its zone.
func oneMachine(a netip.Addr) bool {
	noZone := a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == ""
	return !noZone && !a.IsMulticast() && a.String() != "255.255.255.255"
}

// validTLSName reports whether a certificate can have this name: a host name or an address.
func validTLSName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:"
	return name != "" && len(name) <= 253 && name[0] != '.' && !strings.Contains(name, "..") &&
		strings.Trim(name, letters) == ""
}

// source is where the servers are from: State.Source.
func (o *Options) source() string {
	if len(o.Servers) > 0 {
		return "settings"
	}
	return o.ResolvConf
}

// serversOf returns the servers of the settings, or else the first three of resolv.conf(5): none if the file is missing
// or names none. Lines of the file that cannot be read are ignored, as the C library does.
func serversOf(o Options) (servers []Server, err error) {
	for _, text := range o.Servers {
		server, err := ParseServer(text)
		if err != nil {
			return nil, err
		}
		servers = append(servers, server)
	}
	if len(servers) > 0 {
		return servers, nil
	}
	text, err := regfile.Read(o.ResolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("stub: %w", err)
	}
	const most = 3
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "nameserver" && len(servers) < most {
			if addr, err := netip.ParseAddr(fields[1]); err == nil {
				servers = append(servers, Server{Addr: netip.AddrPortFrom(addr, 53)})
			}
		}
	}
	return servers, nil
}
