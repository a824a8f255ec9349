package stub

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/policyd/policyd/internal/regfile"
)

// maxServers is how many servers are asked, as resolv.conf(5) has it.
const maxServers = 3

// onThisMachine is the server that is asked where a resolv.conf names none, as the C library does.
func onThisMachine() []Server {
	return []Server{{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}}
}

// readResolvConf returns the servers of a resolv.conf(5), none for a file that is missing.
func readResolvConf(path string) ([]Server, error) {
	text, err := regfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	const longest = 64 << 10 // what the C library would read is less
	return parseResolvConf(string(text[:min(len(text), longest)])), nil
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
