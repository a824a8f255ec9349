package lookup_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/report"
)

// Every lookup is recorded once, whether its answer is new or reused, except those of Warm.
func TestEveryLookupIsRecordedOnce(t *testing.T) {
	t.Parallel()
	cache := dnscache.New(resolverFunc(everyKind), dnscache.Options{})
	var recorded, again int
	set := settings()
	set.Policy.DANE = true
	src := from(cache)
	src.Version = cache.Version
	src.Record = func(l report.Lookup) func() {
		require.Equal(t, report.Lookup{Nexthop: "dane.example", Outcome: report.DANE}, l)
		recorded++
		return func() { again++ }
	}
	s := lookup.New(src, set, slog.New(slog.DiscardHandler))
	const lookups = 20
	for range lookups {
		_, source := s.Warm(t.Context(), "dane.example")
		require.Equal(t, "dane", source)
		require.Equal(t, "OK dane-only", ask(s, "tls-policy dane.example"))
	}
	require.Equal(t, lookups, recorded+again)
	require.Positive(t, again)
}
