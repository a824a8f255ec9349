package report_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/report"
)

func TestSum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := report.New(report.Options{})
		for i, l := range []report.Lookup{
			{Nexthop: "plain.example", Outcome: report.AsBefore},
			{Nexthop: "dane.example", Outcome: report.DANE},
			{Nexthop: "prefix.example", Outcome: report.Prefix, Promised: true},
			{Nexthop: "smtps.example", Outcome: report.Prefix, ImplicitTLS: true, Promised: true},
			{Nexthop: "sts.example", Outcome: report.MTASTS},
			{Nexthop: "own.example", Outcome: report.Override},
			{Nexthop: "once.example", Outcome: report.Wait, Reason: "timed out"},
			{Nexthop: "bad.example", Outcome: report.Wait, Reason: "SERVFAIL"},
		} {
			for range i + 1 {
				s.Record(l)
			}
		}
		s.Record(report.Lookup{Nexthop: "once.example", Outcome: report.DANE})
		r := s.Sum(time.Time{})
		require.Equal(t, []int{8, 1, 2, 2, 1, 1, 1, 1, 1}, []int{
			r.Nexthops, r.AsBefore, r.DANE, r.Prefix, r.MTASTS, r.Override, r.Wait, r.Port26, r.Port26Promised,
		})
		require.Len(t, r.Waiting, 2)
		require.Equal(t, "bad.example", r.Waiting[0].Nexthop, "the one that still waits is first")
		require.True(t, r.Waiting[0].Still)
		require.EqualValues(t, 8, r.Waiting[0].Waits)
		require.Equal(t, "SERVFAIL", r.Waiting[0].Reason)
		require.Equal(t, "once.example", r.Waiting[1].Nexthop)
		require.False(t, r.Waiting[1].Still)
		require.Equal(t, "timed out", r.Waiting[1].Reason, "of the lookup that waited")

		time.Sleep(2 * time.Hour)
		s.Record(report.Lookup{Nexthop: "dane.example", Outcome: report.DANE})
		s.Record(report.Lookup{Nexthop: "once.example", Outcome: report.DANE})
		r = s.Sum(time.Now().Add(-time.Hour))
		require.Equal(t, 2, r.Nexthops)
		require.Empty(t, r.Waiting, "the lookup that waited is before that time")
	})
}

// The counts of a next hop that waits never include a lookup before the time of the report.
func TestCountsAreOfTheTimeOfTheReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := report.New(report.Options{})
		const all = 40 * 24
		for i := range all { // an hour apart; every fourth waits
			l := report.Lookup{Nexthop: "bad.example", Outcome: report.DANE}
			if i%4 == 3 {
				l = report.Lookup{Nexthop: "bad.example", Outcome: report.Wait, Reason: "SERVFAIL"}
			}
			s.Record(l)
			time.Sleep(time.Hour)
		}
		for _, hours := range []int{1, 2, 6, 24, 7 * 24, 30 * 24} {
			r := s.Sum(time.Now().Add(-time.Duration(hours) * time.Hour))
			require.Len(t, r.Waiting, 1, hours)
			w := r.Waiting[0]
			require.LessOrEqual(t, w.Lookups, uint64(hours))
			require.LessOrEqual(t, w.Waits, uint64(hours+3)/4)
			require.Greater(t, w.Lookups, uint64(hours)*2/3, "%d hours", hours)
			require.Positive(t, w.Waits)
		}
	})
}

// A lookup in a minute that began before the report is the last one that waited.
func TestTheLastWaitCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := report.New(report.Options{})
		s.Record(report.Lookup{Nexthop: "bad.example", Outcome: report.Wait, Reason: "SERVFAIL"})
		time.Sleep(30 * time.Second)
		s.Record(report.Lookup{Nexthop: "bad.example", Outcome: report.Wait, Reason: "SERVFAIL"})
		w := s.Sum(time.Now().Add(-10 * time.Second)).Waiting
		require.Len(t, w, 1)
		require.EqualValues(t, 1, w[0].Lookups)
		require.EqualValues(t, 1, w[0].Waits)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	s := report.New(report.Options{Max: 100})
	for i := range 1000 {
		s.Record(report.Lookup{Nexthop: fmt.Sprintf("%d.example", i), Outcome: report.Wait, Reason: strings.Repeat("x", 10_000)})
	}
	r := s.Sum(time.Time{})
	require.Equal(t, 100, r.Nexthops)
	require.EqualValues(t, 900, r.Dropped)
	require.Len(t, r.Waiting[0].Reason, 200)
}

func TestNextHopsAreForgottenAfter30Days(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := report.New(report.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		s.Record(report.Lookup{Nexthop: "old.example", Outcome: report.DANE})
		time.Sleep(29 * 24 * time.Hour)
		s.Record(report.Lookup{Nexthop: "new.example", Outcome: report.DANE})
		time.Sleep(2 * 24 * time.Hour)
		require.Equal(t, 1, s.Sum(time.Time{}).Nexthops)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// A restart keeps the next hops that are remembered.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	options := report.Options{StateDir: dir, Max: 3, Log: slog.New(slog.DiscardHandler)}
	s := report.New(options)
	for _, n := range []string{"a.example", "b.example", "c.example", "d.example"} {
		s.Record(report.Lookup{Nexthop: n, Outcome: report.Wait, Reason: "SERVFAIL"})
	}
	before := s.Sum(time.Time{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Run(ctx), context.Canceled)

	s = report.New(options)
	after := s.Sum(time.Time{})
	require.Equal(t, 3, after.Nexthops)
	text := func(r report.Report) string {
		b, err := json.Marshal(r.Waiting)
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, text(before), text(after))
	s.Record(report.Lookup{Nexthop: "a.example", Outcome: report.DANE})
	require.ErrorIs(t, s.Run(ctx), context.Canceled)
}

// A reused answer is counted without a lock, and appears after the next write, in a report, and after a restart.
func TestReusedAnswersAreCounted(t *testing.T) {
	options := report.Options{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	synctest.Test(t, func(t *testing.T) {
		s := report.New(options)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		s.Record(report.Lookup{Nexthop: "a.example", Outcome: report.Wait, Reason: "SERVFAIL"})()
		again := s.Record(report.Lookup{Nexthop: "a.example", Outcome: report.DANE})
		again()
		again()
		lookups := func() uint64 { return s.Sum(time.Time{}).Waiting[0].Lookups }
		require.EqualValues(t, 5, lookups())
		time.Sleep(time.Minute)
		again()
		time.Sleep(time.Minute)
		require.EqualValues(t, 6, lookups())
		again()
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)

		s = report.New(options)
		w := s.Sum(time.Time{}).Waiting[0]
		require.EqualValues(t, 7, w.Lookups)
		require.EqualValues(t, 2, w.Waits)
		require.False(t, w.Still)
		require.ErrorIs(t, s.Run(ctx), context.Canceled)
	})
}
