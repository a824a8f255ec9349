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
		if p.Contains(a) {
			return true
		}
	}
	return a.Is6() && !globalUnicast6().Contains(a)
}

// globalUnicast6 is the only IPv6 range that IANA has handed out for unicast
// on the Internet.
func globalUnicast6() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3) }

// registry lists the IPv4 and IPv6 special-purpose registries, and the parts of
// 2000::/3 that are not ordinary hosts.
func registry() [22]netip.Prefix {
	v4 := func(a, b, c, d byte, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, d}), bits)
	}
	v6 := func(a, b uint16, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{byte(a >> 8), byte(a), byte(b >> 8), byte(b)}), bits)
	}
	return [...]netip.Prefix{
		v4(0, 0, 0, 0, 8),       // this network, RFC 791
		v4(10, 0, 0, 0, 8),      // private use, RFC 1918
		v4(100, 64, 0, 0, 10),   // shared address space, RFC 6598
		v4(127, 0, 0, 0, 8),     // loopback, RFC 1122
		v4(169, 254, 0, 0, 16),  // link-local, RFC 3927
		v4(172, 16, 0, 0, 12),   // private use, RFC 1918
		v4(192, 0, 0, 0, 24),    // IETF protocol assignments, RFC 6890
		v4(192, 0, 2, 0, 24),    // documentation, RFC 5737
		v4(192, 31, 196, 0, 24), // AS112, RFC 7535
		v4(192, 52, 193, 0, 24), // AMT, RFC 7450
		v4(192, 88, 99, 0, 24),  // 6to4 relay, RFC 7526
		v4(192, 168, 0, 0, 16),  // private use, RFC 1918
		v4(192, 175, 48, 0, 24), // AS112, RFC 7534
		v4(198, 18, 0, 0, 15),   // benchmarking, RFC 2544
		v4(198, 51, 100, 0, 24), // documentation, RFC 5737
		v4(203, 0, 113, 0, 24),  // documentation, RFC 5737
		v4(224, 0, 0, 0, 4),     // multicast, RFC 5771
		v4(240, 0, 0, 0, 4),     // reserved and broadcast, RFC 1112
		v6(0x2001, 0, 23),       // IETF protocol assignments and Teredo, RFC 2928
		v6(0x2001, 0xdb8, 32),   // documentation, RFC 3849
		v6(0x2002, 0, 16),       // 6to4, RFC 3056
		v6(0x3fff, 0, 20),       // documentation, RFC 9637
	}
}
