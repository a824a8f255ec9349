package address_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/address"
)

func TestSpecial(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254",
		"172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:192.0.2.1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b:1::1", "100::1",
		// NAT64 of special IPv4 addresses: RFC 6052 section 3.1.
		"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::c0a8:101", "64:ff9b::", "64:ff9b::e000:1", "64:ff9b::c01f:c401",
		"64:ff9b::6440:1", "64:ff9b::ffff:ffff", "64:ff9b:0:0:0:1:808:808", "64:ff9b:1::808:808", "64:ff9b:1:808:8:800::", "64:ff9b:1:fffe::808:808",
		// AS112, in all its networks.
		"192.31.196.1", "192.175.48.6", "2620:4f:8000::1", "2620:4f:8000:ffff::1", "2001:4:112::1",
		// The other entries of the registries.
		"192.52.193.1", "192.0.0.9", "192.0.0.170", "2001:1::1", "2001:3::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1ff:ffff::1",
		"100:0:0:1::1", "3fff:fff::1",
		"2001::1", "2001:2::1", "2001:db8::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd12::1",
		"fe80::1", "fe80::1%lo", "2600::1%lo", "fec0::1", "ff02::1",
	} {
		require.True(t, address.Special(netip.MustParseAddr(s)), s)
	}
	for _, s := range []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
		"192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:4860::8888", "2600::1", "2a00::1",
		"64:ff9b::5db8:d822", "64:ff9b::808:808", "64:ff9b::dfff:ffff", // NAT64: the embedded address decides
		"192.31.195.255", "192.31.197.0", "192.175.47.255", "192.175.49.0", "2620:4f:7fff::1", "2620:4f:8001::1", "2001:200::1", "2003::1",
	} {
		require.False(t, address.Special(netip.MustParseAddr(s)), s)
	}
	require.True(t, address.Special(netip.Addr{}), "the zero Addr")
}

func TestOrdinary(t *testing.T) {
	t.Parallel()
	var list []netip.Addr
	for _, s := range []string{"10.0.0.1", "8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808"} {
		list = append(list, netip.MustParseAddr(s))
	}
	ordinary, err := address.Ordinary(list)
	require.Equal(t, []netip.Addr{list[1], list[3]}, ordinary)
	require.EqualError(t, err, "special-purpose addresses are not allowed: 10.0.0.1, 64:ff9b::7f00:1")
	ordinary, err = address.Ordinary(ordinary)
	require.Equal(t, []netip.Addr{list[1], list[3]}, ordinary)
	require.NoError(t, err)
	ordinary, err = address.Ordinary(nil)
	require.Empty(t, ordinary)
	require.NoError(t, err)
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for a, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48", "64:ff9b::808:404": "8.8.4.0/24",
		"64:ff9b:1::808:404": "64:ff9b:1::/48", "fe80::1%lo": "fe80::/48",
	} {
		require.Equal(t, want, address.Network(netip.MustParseAddr(a)).String(), a)
	}
	require.False(t, address.Network(netip.Addr{}).IsValid())
}
