package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                     {},
		"+14d":                 time.Date(2026, 12, 8, 9, 0, 0, 0, time.UTC),
		"+2w":                  time.Date(2026, 12, 8, 9, 0, 0, 0, time.UTC),
		"+0d":                  now,
		"+36h":                 time.Date(2026, 11, 25, 21, 0, 0, 0, time.UTC),
		"+90m":                 time.Date(2026, 11, 24, 10, 30, 0, 0, time.UTC),
		"2027-01-31":           time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
		"2027-01-31T12:00:00Z": time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC),
	} {
		got, err := moment(text, now)
		require.NoError(t, err, text)
		require.True(t, want.Equal(got), "%q: %s", text, got)
	}
	for _, text := range []string{"+", "d", "+d", "+14", "+-1d", "-14d", "+1y", "+99999999999999d", "+1e9h", "tomorrow", "2027-13-01", "14d"} {
		_, err := moment(text, now)
		require.ErrorContains(t, err, "as a time", text)
	}
}
