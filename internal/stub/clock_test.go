package stub_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/dnscache"
)

// Cached answers age by the monotonic clock, and not by the wall clock: a wall clock that jumps an hour back
// would keep answers for longer than their TTL, and a clock that jumps forward would end all secure answers.
func TestClockJumpsDoNotAgeAnswers(t *testing.T) {
	t.Parallel()
	server, s := on(t, longTimeout)
	cache := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
	for name, a := range map[string]dnstest.Answer{
		"answer.example": {Secure: true, Records: []string{"MX 10 mx.answer.example."}},
		"denial.example": {Secure: true},
	} {
		server.Set(name, dns.TypeMX, a)
		for range 2 { // from the resolver, and from the cache
			rrset := answer(t, cache, mx(name))
			// A time without a monotonic reading is wall clock time (package time).
			require.NotEqual(t, rrset.Expires.Round(0).String(), rrset.Expires.String())
		}
	}
	server.Set("failure.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL"})
	require.Equal(t, "SERVFAIL", failure(t, cache, mx("failure.example")).Reason)
	entries := cache.List(dns.Within("failure.example"), 0)
	require.Len(t, entries, 1)
	require.NotEqual(t, entries[0].Retry.Round(0).String(), entries[0].Retry.String())
}
