package stub_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/dnscache"
)

// What is in the cache ages by the time that passes, and not by the clock on the wall: one that jumps an hour back
// would keep answers for longer than their TTL, and one that jumps forward would end all that is secure at once.
func TestClockJumpsDoNotAgeAnswers(t *testing.T) {
	t.Parallel()
	server, s := on(t, patient)
	cache := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
	for name, a := range map[string]dnstest.Answer{
		"answer.example": {Secure: true, Records: []string{"MX 10 mx.answer.example."}},
		"denial.example": {Secure: true},
	} {
		server.Set(name, dns.TypeMX, a)
		for range 2 { // from the resolver, and from the cache
			rrset := answer(t, cache, mx(name))
			// A time without a monotonic reading is one of the clock on the wall (package time).
			require.NotEqual(t, rrset.Expires.Round(0).String(), rrset.Expires.String())
		}
	}
	server.Set("failure.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL"})
	require.Equal(t, "SERVFAIL", failure(t, cache, mx("failure.example")).Reason)
	entries := cache.Get("failure.example")
	require.Len(t, entries, 1)
	require.NotEqual(t, entries[0].Retry.Round(0).String(), entries[0].Retry.String())
}
