// Package address knows which IP addresses are not ordinary hosts on the
// Internet: the IANA special-purpose registries of RFC 6890, and multicast.
package address

import "net/netip"

// Special reports whether a must not be connected to on the word of somebody
// else's DNS: loopback, private, link-local, shared, documentation, benchmarking,
// translation and reserved ranges, multicast, and the invalid zero Addr.
// An IPv4-mapped, IPv4-compatible, 6to4, Teredo or NAT64 address is special: it leads to an IPv4
// address that would have to be judged instead.
func Special(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		return true
	}
	for _, p := range registry() {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return a.Is6() && !netip.MustParsePrefix(globalUnicast6).Contains(a)
}

// globalUnicast6 is the only IPv6 range that IANA has handed out for unicast
// on the Internet.
const globalUnicast6 = "2000::/3"

// registry lists the IPv4 and IPv6 special-purpose registries, and the parts of
// 2000::/3 that are not ordinary hosts.
func registry() []string {
	return []string{
		"0.0.0.0/8",       // this network, RFC 791
		"10.0.0.0/8",      // private use, RFC 1918
		"100.64.0.0/10",   // shared address space, RFC 6598
		"127.0.0.0/8",     // loopback, RFC 1122
		"169.254.0.0/16",  // link-local, RFC 3927
		"172.16.0.0/12",   // private use, RFC 1918
		"192.0.0.0/24",    // IETF protocol assignments, RFC 6890
		"192.0.2.0/24",    // documentation, RFC 5737
		"192.31.196.0/24", // AS112, RFC 7535
		"192.52.193.0/24", // AMT, RFC 7450
		"192.88.99.0/24",  // 6to4 relay, RFC 7526
		"192.168.0.0/16",  // private use, RFC 1918
		"192.175.48.0/24", // AS112, RFC 7534
		"198.18.0.0/15",   // benchmarking, RFC 2544
		"198.51.100.0/24", // documentation, RFC 5737
		"203.0.113.0/24",  // documentation, RFC 5737
		"224.0.0.0/4",     // multicast, RFC 5771
		"240.0.0.0/4",     // reserved and broadcast, RFC 1112
		"2001::/23",       // IETF protocol assignments and Teredo, RFC 2928
		"2001:db8::/32",   // documentation, RFC 3849
		"2002::/16",       // 6to4, RFC 3056
		"3fff::/20",       // documentation, RFC 9637
	}
}
