package stub

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/policyd/policyd/internal/regfile"
)

// maxServers is how many servers are asked, as in resolv.conf(5).
const maxServers = 3

// onThisMachine returns the server that the C library asks if resolv.conf names none.
func onThisMachine() []Server {
	return []Server{{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}}
}

// readResolvConf returns the first three servers of a resolv.conf(5), or none if the file is missing. It ignores lines
// that it cannot read, like the C library.
func readResolvConf(path string) ([]Server, error) {
	text, err := regfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	var servers []Server
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == maxServers {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, Server{Addr: netip.AddrPortFrom(addr, 53)})
		}
	}
	return servers, nil
}
