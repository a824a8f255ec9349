// Package address distinguishes ordinary IP addresses of the Internet from special-purpose ones: the IANA registries of
// RFC 6890, multicast, and IPv6 space that IANA has not allocated for unicast.
package address

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// Special reports whether policyd must not connect to a just because someone's DNS names it: loopback, private,
// link-local, shared, documentation, benchmarking and reserved ranges, multicast, anycast addresses of AS112, and the
// zero Addr.
//
// NAT64 addresses in the well-known prefix 64:ff9b::/96 (RFC 6052 section 2.1) are judged by the IPv4 address in them,
// because the translator connects to that address. All other addresses that carry an IPv4 address are special:
//   - 64:ff9b:1::/48 is for local use and not globally reachable (RFC 8215 section 5). Each network chooses the length
//     of its prefix in that range, and with it the place of the IPv4 address, so an address that looks ordinary under
//     one length can be loopback under another.
//   - IPv4-mapped, IPv4-compatible, 6to4 and Teredo addresses do not belong in DNS.
func Special(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		return true
	}
	if embedded, ok := translated(a); ok {
		return Special(embedded)
	}
	within := func(p string) bool { return netip.MustParsePrefix(p).Contains(a) }
	return slices.ContainsFunc(registry(), within) || a.Is6() && !within(globalUnicast6)
}

// Network returns the network that an address counts with where something is bounded per network: a /24 for IPv4, also
// behind NAT64, and a /48 for IPv6. An invalid address gets an invalid prefix.
func Network(a netip.Addr) netip.Prefix {
	const bits4, bits6 = 24, 48
	if embedded, ok := translated(a); ok {
		a = embedded
	}
	if a.Is4() {
		return netip.PrefixFrom(a, bits4).Masked()
	}
	return netip.PrefixFrom(a.WithZone(""), bits6).Masked()
}

// Ordinary returns the addresses of list that are not special, in the order of list. The error names the others.
func Ordinary(list []netip.Addr) (ordinary []netip.Addr, err error) {
	var special []string
	for _, a := range list {
		if Special(a) {
			special = append(special, a.String())
		} else {
			ordinary = append(ordinary, a)
		}
	}
	if len(special) > 0 {
		err = errors.New("special-purpose addresses are not allowed: " + strings.Join(special, ", "))
	}
	return ordinary, err
}

// globalUnicast6 is the only IPv6 range that IANA has allocated for unicast on the Internet.
const globalUnicast6 = "2000::/3"

// registry returns the IANA IPv4 and IPv6 special-purpose registries, except for entries outside globalUnicast6 and for
// nat64, and IPv4 multicast.
func registry() []string {
	return []string{
		"0.0.0.0/8",         // this network, RFC 791
		"10.0.0.0/8",        // private use, RFC 1918
		"100.64.0.0/10",     // shared address space, RFC 6598
		"127.0.0.0/8",       // loopback, RFC 1122
		"169.254.0.0/16",    // link-local, RFC 3927
		"172.16.0.0/12",     // private use, RFC 1918
		"192.0.0.0/24",      // IETF protocol assignments, RFC 6890
		"192.0.2.0/24",      // documentation, RFC 5737
		"192.31.196.0/24",   // AS112, RFC 7535
		"192.52.193.0/24",   // AMT, RFC 7450
		"192.88.99.0/24",    // 6to4 relay, RFC 7526
		"192.168.0.0/16",    // private use, RFC 1918
		"192.175.48.0/24",   // AS112, RFC 7534
		"198.18.0.0/15",     // benchmarking, RFC 2544
		"198.51.100.0/24",   // documentation, RFC 5737
		"203.0.113.0/24",    // documentation, RFC 5737
		"224.0.0.0/4",       // multicast, RFC 5771
		"240.0.0.0/4",       // reserved and broadcast, RFC 1112
		"2001::/23",         // IETF protocol assignments, RFC 2928: Teredo, benchmarking, AMT, AS112, ORCHID, DRIP
		"2001:db8::/32",     // documentation, RFC 3849
		"2002::/16",         // 6to4, RFC 3056
		"2620:4f:8000::/48", // AS112, RFC 7534
		"3fff::/20",         // documentation, RFC 9637
	}
}
