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
	rest, port, name, validName := s, "53", "", true
	if after, ok := strings.CutPrefix(s, "tls://"); ok {
		const longest, letters = 253, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:"
		port = "853"
		name, rest, _ = strings.Cut(after, "@")
		validName = name != "" && len(name) <= longest && name[0] != '.' && !strings.Contains(name, "..") &&
			strings.Trim(name, letters) == ""
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
		server, err := netip.ParseAddrPort(form)
		a := server.Addr()
		several := a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
			a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == ""
		if err == nil && validName && !several && server.Port() > 0 {
			return Server{server, name}, nil
		}
	}
	return Server{}, fmt.Errorf("%q is not a DNS server (the address of one machine, and a port of 1 to 65535): write "+
		`"127.0.0.1", "127.0.0.1:5300", "[::1]:53", "fe80::1%%eth0" or "tls://name@192.0.2.1:853"`, s)
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
