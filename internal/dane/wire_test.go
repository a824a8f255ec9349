package dane_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/stub"
)

// TestLookupOverTheWire goes the whole way: a resolver on loopback, the stub, the cache and its view that never waits.
func TestLookupOverTheWire(t *testing.T) {
	t.Parallel()
	server := dnstest.New(t)
	const host, target = "mx.example.com", "target.example.net"
	const link, end = "CNAME " + target + ".", "=" + target + ". "
	server.Set(host, dns.TypeA, dnstest.Answer{Secure: true, Records: []string{link, end + "A 192.0.2.1"}})
	server.Set(host, dns.TypeAAAA, dnstest.Answer{Secure: true, Records: []string{link, end + "AAAA 2001:db8::1"}})
	server.Set("_25._tcp."+target, dns.TypeTLSA, dnstest.Answer{Secure: true, Rcode: "NXDOMAIN"})
	server.Set("_25._tcp."+host, dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{
		"CNAME _dane.example.com.", "=_dane.example.com. TLSA 3 1 1 " + strings.Repeat("ab", 32),
	}})
	server.Set("_26._tcp."+target, dns.TypeTLSA, dnstest.Answer{Rcode: "SERVFAIL", EDE: 6})

	stub, err := stub.New(stub.Options{Servers: []string{server.Addr()}})
	require.NoError(t, err)
	require.True(t, stub.SelfTest(t.Context()))
	cache := dnscache.New(stub, dnscache.Options{Epoch: stub.Epoch})

	query := dane.Query{Host: host, Port: 25}
	known := dane.Query{Host: host, Port: 25, Effort: dns.Effort{CacheOnly: true}}
	require.ErrorIs(t, dane.Lookup(t.Context(), cache, known).Err, dns.ErrNotCached)
	require.Zero(t, server.Queries())

	asked := dane.Lookup(t.Context(), cache, query)
	require.Equal(t, dane.Usable, asked.State, asked.Why)
	require.Equal(t, dns.Secure, asked.Addresses)
	require.Equal(t, host, baseOf(asked), "the expanded name has none")

	// The answer to AAAA, which has not been waited for, is in the cache a moment later.
	var cached dane.Result
	require.Eventually(t, func() bool {
		cached = dane.Lookup(t.Context(), cache, known)
		return cached.State != dane.Unknown
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, asked, cached)
	require.Equal(t, 4, server.Queries(), "A, AAAA, and TLSA at both names")

	failed := dane.Lookup(t.Context(), cache, dane.Query{Host: host, Port: 26})
	require.Equal(t, dane.Failed, failed.State, "a bogus TLSA RRset is not the same as none")
	require.Equal(t, 5, server.Queries())

	server.Set("unsigned.example", dns.TypeA, dnstest.Answer{Records: []string{"A 192.0.2.1"}})
	unsigned := dane.Lookup(t.Context(), cache, dane.Query{Host: "unsigned.example", Port: 25})
	require.Equal(t, dane.Absent, unsigned.State)
	require.Equal(t, 7, server.Queries(), "no TLSA question where the addresses are insecure")
}
