package resolver

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// maxServers is how many servers are asked, as resolv.conf(5) has it.
const maxServers = 3

// readResolvConf returns the servers of a resolv.conf(5). No file and a file without a server mean a
// server on this machine, as they do for the C library.
func readResolvConf(path string) ([]Server, error) {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	var servers []Server
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err != nil {
			continue
		}
		servers = append(servers, Server{Addr: netip.AddrPortFrom(addr, 53)})
	}
	if len(servers) == 0 {
		servers = []Server{{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}}
	}
	return servers[:min(len(servers), maxServers)], nil
}
