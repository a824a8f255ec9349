package gather_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/policy"
)

// TestAHostThatWasSignedNeedsTwoRoundTrips: its TLSA records are asked for together with its addresses, until these are
// found to be insecure. A remote sender changes nothing.
func TestAHostThatWasSignedNeedsTwoRoundTrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const far = "mx.provider.example"
		hosts := gather.NewHosts()
		zone := map[string]answer{
			"MX example.com": mxs(unsigned, dns.MX{Host: far}), "TXT _mta-sts.example.com": denial(unsigned),
			"A " + far: addrs("192.0.2.1"), "AAAA " + far: denial(signed), "TLSA _25._tcp." + far: tlsa(signed),
		}
		steps := func(by dns.Effort) time.Duration {
			var slow dns.Resolver = &table{t: t, answers: zone}
			for _, q := range []dns.Type{dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeTLSA, dns.TypeTXT} {
				slow = delayed{slow, q, time.Second}
			}
			cache := shared(slow)
			e := gather.Engine{Resolver: starting{cache}, Site: site{}, STS: storeOf{resolver: cache}, Hosts: hosts}
			start := time.Now()
			_, _, err := decide(t.Context(), &e, policy.Decide, domain, withDANEAndSTS(), by)
			require.NoError(t, err)
			took := time.Since(start)
			time.Sleep(time.Minute) // the questions without a caller end
			synctest.Wait()
			return took
		}
		untrusted := dns.Effort{Untrusted: true}
		require.Equal(t, 4*time.Second, steps(untrusted), "no question is asked early")
		require.Equal(t, 3*time.Second, steps(dns.Effort{}), "not seen signed yet")
		require.Equal(t, 2*time.Second, steps(dns.Effort{}))
		zone["A "+far], zone["AAAA "+far] = insecureAddrs(), insecureAddrs()
		require.Equal(t, 3*time.Second, steps(dns.Effort{}), "asked early for the last time, and AAAA is needed now")
		delete(zone, "TLSA _25._tcp."+far)
		require.Equal(t, 2*time.Second, steps(dns.Effort{}), "and not asked for any more")
	})
}

// TestThreeRoundTrips counts the steps of questions, where every answer takes one second.
func TestThreeRoundTrips(t *testing.T) {
	t.Parallel()
	const mx, far = "mx.example.com", "mx.provider.example"
	zone := func(status dns.Status, host string, tlsa answer) map[string]answer {
		a := addrs("192.0.2.1")
		a.rrset.Status = status
		return map[string]answer{"MX example.com": mxs(status, dns.MX{Host: host}), "A " + host: a, "AAAA " + host: denial(status), "TXT _mta-sts.example.com": denial(status), "TLSA _25._tcp." + host: tlsa}
	}
	secureHost := zone(unsigned, far, tlsa(signed))
	secureHost["A "+far] = addrs("192.0.2.1")
	prefixed := zone(unsigned, "starttls-a.example.com", denial(unsigned))
	for _, c := range []struct {
		name  string
		zone  map[string]answer
		steps int
		want  string
	}{
		{"unsigned", zone(unsigned, mx, denial(unsigned)), 2, "NOTFOUND "},
		{"unsigned with a prefix", prefixed, 2, "OK secure match=starttls-a.example.com servername=hostname"},
		{"unsigned, the host of a signed provider with TLSA", secureHost, 3, "OK dane"},
		{"signed, its own host with TLSA", zone(signed, mx, tlsa(signed)), 2, "OK dane-only"},
		{"signed, its own host without TLSA", zone(signed, mx, denial(signed)), 2, "NOTFOUND "},
		{"signed, the host of a provider with TLSA", zone(signed, far, tlsa(signed)), 3, "OK dane-only"},
		{"signed, the host of a provider without TLSA", zone(signed, far, denial(signed)), 3, "NOTFOUND "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := &table{t: t, answers: c.zone}
				var slow dns.Resolver = all
				for _, q := range []dns.Type{dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeTLSA, dns.TypeTXT} {
					slow = delayed{slow, q, time.Second}
				}
				cache := shared(slow)
				e := gather.Engine{Resolver: starting{cache}, Site: site{}, STS: storeOf{resolver: cache}}
				start := time.Now()
				require.Equal(t, c.want, reply(t, &e, domain, withDANEAndSTS()))
				require.Equal(t, time.Duration(c.steps)*time.Second, time.Since(start))
				if !slices.Contains(all.questions(), "TLSA _25._tcp."+mx) && strings.HasPrefix(c.name, "signed, its own") {
					require.Fail(t, "TLSA was not asked for")
				}
				time.Sleep(time.Minute) // the questions without a caller end
				synctest.Wait()
			})
		})
	}
}
