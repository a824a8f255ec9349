package stsstore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
)

// The clock jumps one hour either way, or one day forward, while policyd is stopped and the policy host cannot be reached: a
// policy of a week holds all the same, and one of a day holds unless the day is over.
func TestClockJumpsAcrossARestart(t *testing.T) {
	t.Parallel()
	week := "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"
	for name, c := range map[string]struct {
		jump time.Duration
		day  string // what becomes of the policy of a day
	}{
		"an hour back":    {-time.Hour, found1},
		"an hour forward": {time.Hour, found1},
		"a day forward":   {24*time.Hour + time.Second, "failed sts-policy-fetch-error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			const fetched = 48 * time.Hour
			synctest.Test(t, func(t *testing.T) {
				w := newInternet()
				w.set("week.example", "1", week)
				w.set(domain, "1", enforce)
				time.Sleep(fetched)
				s := w.store(t, in(dir))
				require.Equal(t, mtasts.Found, s.Lookup(t.Context(), "week.example", anything).State)
				require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
				require.NoError(t, s.Close())
			})
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(fetched + c.jump)
				w := newInternet()
				w.set("week.example", "1", week)
				w.set(domain, "1", enforce)
				w.down(mtasts.FetchError)
				s := w.store(t, in(dir))
				require.Equal(t, mtasts.Found, s.Lookup(t.Context(), "week.example", anything).State)
				require.Equal(t, c.day, short(s.Lookup(t.Context(), domain, anything)))
			})
		})
	}
}

// A policy that this process has fetched ages by the time that passes: a jump of the clock neither ends nor prolongs it.
func TestClockJumpsDoNotAgeAPolicy(t *testing.T) {
	t.Parallel()
	w := newInternet()
	w.set(domain, "1", enforce)
	r := w.store(t, in(t.TempDir())).Lookup(t.Context(), domain, anything)
	require.Equal(t, found1, short(r))
	// A time without a monotonic reading is wall clock time (package time).
	require.NotEqual(t, r.Expires.Round(0).String(), r.Expires.String())
}
