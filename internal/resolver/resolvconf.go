package resolver

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
)

// maxServers is how many servers are asked, as resolv.conf(5) has it.
const maxServers = 3

// onThisMachine is the server that is asked where a resolv.conf names none, as the C library does.
func onThisMachine() []Server {
	return []Server{{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}}
}

// readResolvConf returns the servers of a resolv.conf(5), none for a file that is missing.
func readResolvConf(path string) ([]Server, error) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	defer func() { _ = file.Close() }()
	const longest = 64 << 10
	text, err := io.ReadAll(io.LimitReader(file, longest))
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	return parseResolvConf(string(text)), nil
}

// parseResolvConf returns the first three servers. A line that cannot be read is passed over, as the C library does.
func parseResolvConf(text string) []Server {
	var servers []Server
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == maxServers {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, Server{Addr: netip.AddrPortFrom(addr, 53)})
		}
	}
	return servers
}
