package lookup_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
)

// efforts passes lookups on and notes their efforts.
type efforts struct {
	dns.Resolver
	mu   sync.Mutex
	seen []dns.Effort
}

func (e *efforts) Lookup(ctx context.Context, q dns.Question, by dns.Effort) (*dns.RRset, error) {
	e.mu.Lock()
	e.seen = append(e.seen, by)
	e.mu.Unlock()
	if by.CacheOnly {
		return nil, dns.ErrNotCached
	}
	return e.Resolver.Lookup(ctx, q, by)
}

// Untrusted senders choose the domains of the transport map, from the cache too: nothing is refreshed for them.
func TestEveryLookupOfTheTransportMapIsUntrusted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &efforts{Resolver: everywhere(0, nil)}
		s := lookup.New(from(e), settings(), slog.New(slog.DiscardHandler))
		stop := running(s)
		defer stop()
		require.Contains(t, ask(s, "transport user@example.com"), "OK smtps26:")
		require.NotEmpty(t, e.seen)
		for _, by := range e.seen {
			require.True(t, by.Untrusted)
		}
		e.seen = nil
		require.Contains(t, ask(s, "tls-policy example.com"), "OK secure")
		for _, by := range e.seen {
			require.False(t, by.Untrusted)
		}
	})
}

// Nothing is enforced in report mode, not even after a panic.
func TestAPanicDefersMailOnlyInEnforceMode(t *testing.T) {
	t.Parallel()
	for mode, want := range map[policy.Mode]string{policy.ModeEnforce: "TEMP internal error", policy.ModeReport: "NOTFOUND "} {
		set := settings()
		set.Policy.Mode = mode
		broken := resolverFunc(func(context.Context, dns.Question) (*dns.RRset, error) { panic("broken") })
		s := service(broken, broken, set)
		require.Equal(t, want, ask(s, "tls-policy example.com"), mode)
		require.Equal(t, "NOTFOUND ", ask(s, "transport user@example.com"), mode)
	}
}
