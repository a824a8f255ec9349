package lookup_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/mtasts"
)

// TestFactsAreNotLookedAtWhileNothingChanges: what saves the look never outlives a change of the cache, an expiry, or
// two seconds.
func TestFactsAreNotLookedAtWhileNothingChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cache := dnscache.New(resolverFunc(everyKind), dnscache.Options{})
		var looks atomic.Int64
		cached := resolverFunc(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
			looks.Add(1)
			return cache.Lookup(ctx, q, dns.Effort{CacheOnly: true})
		})
		s := lookup.New(lookup.Sources{Resolver: views{asking: cache, cached: cached}, Version: cache.Version}, settings(), slog.New(slog.DiscardHandler))
		looked := func() bool {
			looks.Store(0)
			require.Equal(t, "OK secure match=smtps-mx.example.com:starttls-mx.example.com servername=hostname", ask(s, "tls-policy example.com"))
			return looks.Load() > 0
		}
		settled := func() {
			for range 3 { // asked, remembered, looked at
				looked()
			}
			require.False(t, looked())
		}
		settled()
		_, err := cache.Lookup(t.Context(), dns.Question{Name: "another.example", Type: dns.TypeMX}, dns.Effort{})
		require.NoError(t, err)
		require.True(t, looked(), "something has changed")
		settled()
		require.Positive(t, cache.Flush("example.com"))
		require.True(t, looked(), "the very answer is gone")
		settled()
		time.Sleep(2 * time.Second)
		require.True(t, looked(), "so that the cache learns what is in use")
		settled()
		time.Sleep(24*time.Hour - 2*time.Second - 100*time.Millisecond)
		settled()
		time.Sleep(100 * time.Millisecond)
		require.True(t, looked(), "expired")
	})
}

// TestOtherFactsAreLookedAtFourTimesASecond: of an MTA-STS policy nobody says when it changes.
func TestOtherFactsAreLookedAtFourTimesASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cache := dnscache.New(resolverFunc(everyKind), dnscache.Options{})
		w := &world{sts: mtasts.Result{State: mtasts.Absent}}
		set := settings()
		set.Policy.MTASTS = true
		s := lookup.New(lookup.Sources{Resolver: cache, Version: cache.Version, STS: worldSTS{w}, CachedSTS: worldSTS{w}}, set, slog.New(slog.DiscardHandler))
		const plain = "tls-policy plain.example"
		for range 3 {
			require.Equal(t, "NOTFOUND ", ask(s, plain))
		}
		time.Sleep(time.Second)
		require.Equal(t, "NOTFOUND ", ask(s, plain))
		w.sts = mtasts.Result{
			Domain: "plain.example", State: mtasts.Found, ID: "1", Expires: time.Now().Add(time.Hour),
			Policy: mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"mx.plain.example"}, MaxAge: time.Hour},
		}
		time.Sleep(250 * time.Millisecond)
		require.Equal(t, "OK secure match=mx.plain.example servername=hostname", ask(s, plain))
	})
}
