package dnscache

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// An answer is kept for 24 hours at most, a denial for 3 hours (RFC 8767 section 4, RFC 2308 section 5), and an
// answer that was stale already for 30 seconds (RFC 8767 section 5).
func TestHowLongAnAnswerIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		ttl           time.Duration
		denied, stale bool
		want          time.Duration
	}{
		"a minute":               {ttl: time.Minute, want: time.Minute},
		"24 hours":               {ttl: 24 * time.Hour, want: 24 * time.Hour},
		"the top bit set":        {ttl: 2147483648 * time.Second, want: 24 * time.Hour},
		"all bits set":           {ttl: 4294967295 * time.Second, want: 24 * time.Hour},
		"a denial":               {ttl: time.Hour, denied: true, want: time.Hour},
		"a denial for a day":     {ttl: 24 * time.Hour, denied: true, want: 3 * time.Hour},
		"a denial, all bits":     {ttl: 4294967295 * time.Second, denied: true, want: 3 * time.Hour},
		"a stale answer":         {ttl: time.Hour, stale: true, want: 30 * time.Second},
		"a stale denial":         {ttl: time.Hour, denied: true, stale: true, want: 30 * time.Second},
		"a stale answer of 10 s": {ttl: 10 * time.Second, stale: true, want: 10 * time.Second},
	} {
		for _, status := range []dns.Status{dns.Secure, dns.Insecure} {
			cachedRun(t, func(t *testing.T, cache *Cache, next *facts) {
				next.set(func(q dns.Question) (*dns.RRset, error) {
					r, err := says(status, c.ttl, c.denied)(q)
					r.Stale = c.stale
					return r, err
				})
				q := dns.Question{Name: "example.com", Type: dns.TypeA}
				r, err := cache.Lookup(t.Context(), q, dns.Effort{})
				require.NoError(t, err)
				require.Equal(t, c.want, time.Until(r.Expires), name)
				time.Sleep(c.want - 1)
				look := dns.Effort{CacheOnly: true, Untrusted: true} // no refresh
				require.Contains(t, gets(cache, q, look), status.String(), name)
				time.Sleep(time.Nanosecond)
				require.Equal(t, dns.ErrNotCached.Error(), gets(cache, q, look), name)
			})
		}
	}
}

// A resolver that cannot reach the zone may answer with what has expired, with the AD bit. It does not end a live
// secure answer, whatever it says.
func TestAStaleAnswerReplacesNoSecureOne(t *testing.T) {
	for _, denied := range []bool{true, false} {
		for _, status := range []dns.Status{dns.Secure, dns.Insecure} {
			cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
				fresh, err := c.Lookup(t.Context(), mxOf("example.com"), dns.Effort{})
				require.NoError(t, err)
				next.set(func(q dns.Question) (*dns.RRset, error) {
					r, err := says(status, time.Hour, denied)(q)
					r.Stale = true
					return r, err
				})
				c.refresh(mxOf("example.com"))
				got, err := c.Lookup(t.Context(), mxOf("example.com"), dns.Effort{})
				require.NoError(t, err)
				require.Equal(t, fresh, got)
				time.Sleep(time.Hour)
				got, err = c.Lookup(t.Context(), mxOf("example.com"), dns.Effort{})
				require.NoError(t, err)
				require.True(t, got.Stale, "the secure answer has expired")
				next.set(says(dns.Insecure, time.Hour, false))
				if status == dns.Insecure {
					c.refresh(mxOf("example.com"))
					require.Equal(t, "insecure", cached(c, mxOf("example.com")), "an insecure answer is replaced by any")
				}
			})
		}
	}
}

// An answer that was stale when it arrived is not served for another hour.
func TestAStaleAnswerIsNotServedStale(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		next.set(func(q dns.Question) (*dns.RRset, error) {
			r, err := says(dns.Secure, time.Hour, false)(q)
			r.Stale = true
			return r, err
		})
		require.Equal(t, "secure", gets(c, mxOf("example.com")))
		next.set(fails)
		time.Sleep(maxStaleTTL)
		require.Equal(t, "SERVFAIL", gets(c, mxOf("example.com")))
	})
}

// The resolver may have been restarted without validation: an insecure answer contradicts a secure one.
func TestAnInsecureAnswerContradictsASecureOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		contradictions := 0
		c := New(next, Options{Contradicted: func() { contradictions++ }})
		gets(c, mxOf("example.com"))
		c.refresh(mxOf("example.com"))
		next.set(fails)
		c.refresh(mxOf("example.com"))
		require.Zero(t, contradictions)
		next.set(says(dns.Insecure, time.Hour, false))
		gets(c, mxOf("insecure.example"))
		require.Zero(t, contradictions)
		c.refresh(mxOf("example.com"))
		require.Equal(t, 1, contradictions)
		next.set(says(dns.Insecure, time.Hour, true))
		c.refresh(mxOf("example.com"))
		require.Equal(t, 2, contradictions, "a denial too")
		time.Sleep(time.Hour)
		require.Equal(t, "insecure denied", gets(c, mxOf("example.com")))
		require.Equal(t, 3, contradictions, "the secure answer has expired only now")
		time.Sleep(time.Hour)
		require.Equal(t, "insecure denied", gets(c, mxOf("example.com")))
		require.Equal(t, 3, contradictions, "there is no secure answer any more")
	})
}
