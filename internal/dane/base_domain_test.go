package dane_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
)

// TestBothExpandedNamesAreBaseDomains: A and AAAA are aliases of different names, and TLSA records at either protect.
func TestBothExpandedNamesAreBaseDomains(t *testing.T) {
	t.Parallel()
	const one, two, original = "TLSA _25._tcp.four.example", "TLSA _25._tcp.six.example", "TLSA _25._tcp.mx.example.com"
	zone4, zone6 := alias(signed, "four.example"), alias(signed, "six.example")
	for _, late := range []string{"", "A mx.example.com", "AAAA mx.example.com"} {
		for _, c := range []struct {
			four, six, original answer
			state               dane.State
			base                string
		}{
			{tlsa(signed, digest()), none(signed), none(signed), dane.Usable, "four.example"},
			{none(signed), tlsa(signed, digest()), none(signed), dane.Usable, "six.example"},
			{none(signed), none(signed), tlsa(signed, digest()), dane.Usable, "mx.example.com"},
			{none(signed), none(signed), none(signed), dane.Absent, ""},
			{none(signed), tlsa(signed, pkix()), none(signed), dane.Unusable, "six.example"},
			{none(signed), failing("SERVFAIL"), none(signed), dane.Failed, ""},
		} {
			synctest.Test(t, func(t *testing.T) {
				z := &zone{t: t, late: late, twice: original, answers: map[string]answer{
					"A mx.example.com": zone4, "AAAA mx.example.com": zone6, one: c.four, two: c.six, original: c.original,
				}}
				r := lookup(t, z, dane.Query{Host: "mx.example.com", Port: 25})
				require.Equal(t, c.state, r.State, r.Why)
				require.Equal(t, c.base, baseOf(r))
			})
		}
	}
}

// TestSlowAnswersHideNoAliasOfASignedHost: AAAA, which is asked for after A, leads to the only TLSA records.
func TestSlowAnswersHideNoAliasOfASignedHost(t *testing.T) {
	t.Parallel()
	const original = "TLSA _25._tcp.mx.example.com"
	for _, c := range []struct {
		a    dns.Status
		took map[dns.Type]time.Duration
	}{
		{signed, map[dns.Type]time.Duration{dns.TypeTLSA: 600 * time.Millisecond}},
		{unsigned, map[dns.Type]time.Duration{dns.TypeCNAME: 1100 * time.Millisecond}},
		{signed, map[dns.Type]time.Duration{dns.TypeA: 200 * time.Millisecond, dns.TypeAAAA: 1100 * time.Millisecond}},
		{unsigned, map[dns.Type]time.Duration{dns.TypeA: 200 * time.Millisecond, dns.TypeAAAA: 1400 * time.Millisecond, dns.TypeCNAME: 1300 * time.Millisecond}},
	} {
		synctest.Test(t, func(t *testing.T) {
			z := &zone{t: t, twice: original, answers: map[string]answer{
				"A mx.example.com": alias(c.a, "four.example"), "TLSA _25._tcp.four.example": none(signed),
				"AAAA mx.example.com": alias(signed, "six.example"), "TLSA _25._tcp.six.example": tlsa(signed, digest()),
				"CNAME mx.example.com": cname(unsigned, "four.example"), original: none(signed),
			}}
			slow := resolverFunc(func(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
				time.Sleep(c.took[q.Type])
				return z.Lookup(ctx, q, e)
			})
			r := lookup(t, slow, dane.Query{Host: "mx.example.com", Port: 25, Timeout: 4 * time.Second, Signed: true})
			require.Equal(t, dane.Usable, r.State, "%v: %s", c.took, r.Why)
			require.Equal(t, "six.example", baseOf(r))
		})
	}
}

func TestLookupOfAnotherPort(t *testing.T) {
	t.Parallel()
	z := &zone{t: t, answers: map[string]answer{"A mx.example.com": with(signed), "AAAA mx.example.com": none(signed), "TLSA _26._tcp.mx.example.com": tlsa(signed, digest())}}
	r := lookup(t, z, dane.Query{Host: "mx.example.com", Port: 26})
	require.Equal(t, dane.Usable, r.State)
	require.Len(t, z.asked, 3)
}

func TestAnInvalidHostNameIsUnreachableWithoutAQuery(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", ".", "192.0.2.1", `a\032b.example.com`, "-a.example.com", "a..example.com", "[192.0.2.1]", strings.Repeat("a.", 127) + "com"} {
		r := lookup(t, &zone{t: t}, dane.Query{Host: host, Port: 25})
		require.Equal(t, dane.Unreachable, r.State, "%q", host)
		require.NoError(t, r.Err)
	}
}

// TestAnExpandedNameTooLongForTLSARecords: only the original name is used, and the limit is that of RFC 1035.
func TestAnExpandedNameTooLongForTLSARecords(t *testing.T) {
	t.Parallel()
	const original = "TLSA _25._tcp.mx.example.com"
	for octets, asked := range map[int]bool{244: true, 245: false} { // "_25._tcp." has 9
		target := strings.Repeat("abcdefg.", 30)
		target += strings.Repeat("x", octets-len(target))
		answers := map[string]answer{"A mx.example.com": alias(signed, target), "AAAA mx.example.com": none(signed), original: tlsa(signed, digest())}
		if asked {
			answers["TLSA _25._tcp."+target] = none(signed)
		}
		synctest.Test(t, func(t *testing.T) {
			z := &zone{t: t, answers: answers}
			r := lookup(t, z, dane.Query{Host: "mx.example.com", Port: 25})
			synctest.Wait()
			require.Equal(t, dane.Usable, r.State)
			require.Equal(t, "mx.example.com", baseOf(r))
			require.Len(t, z.asked, len(answers))
		})
	}
}

func TestANameTooLongForTLSARecordsHasNone(t *testing.T) {
	t.Parallel()
	host := strings.Repeat("abcdefg.", 31) + "com" // 251 octets
	z := &zone{t: t, answers: map[string]answer{"A " + host: with(signed), "AAAA " + host: none(signed)}}
	r := lookup(t, z, dane.Query{Host: host, Port: 25})
	require.Equal(t, dane.Absent, r.State)
}
