package address

import "net/netip"

// nat64 is the Well-Known Prefix of RFC 6052. It has one length, so the last four octets are the IPv4 address.
const nat64 = "64:ff9b::/96"

// translated returns the IPv4 address in a NAT64 address with the well-known prefix.
func translated(a netip.Addr) (netip.Addr, bool) {
	if !netip.MustParsePrefix(nat64).Contains(a) {
		return netip.Addr{}, false
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}
