package promises_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/promises"
)

const domain = "example.com"

// clock is a clock that the test moves.
type clock struct{ now time.Time }

func (c *clock) days(n int)                { c.now = c.now.Add(time.Duration(n) * 24 * time.Hour) }
func (c *clock) pass(d time.Duration)      { c.now = c.now.Add(d) }
func newClock() *clock                     { return &clock{time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }
func with(k promises.Kind) promises.Answer { return promises.Answer{Kinds: []promises.Kind{k}} }

// fixture is a store with a clock and a log of its own.
type fixture struct {
	*promises.Store
	*clock
	log *bytes.Buffer
}

func newFixture(o promises.Options) fixture {
	f := fixture{clock: newClock(), log: new(bytes.Buffer)}
	o.Now = func() time.Time { return f.now }
	o.Log = slog.New(slog.NewTextHandler(f.log, nil))
	f.Store = promises.New(o)
	return f
}

// establish records the promise on three days; the clock then shows the third.
func (f fixture) establish(k promises.Kind) {
	for i := range 3 {
		if i > 0 {
			f.days(1)
		}
		f.Observe(domain, with(k))
	}
}

func TestAPromiseIsEstablishedAfterThreeDaysWithinThirty(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		days []int // between sightings
		wait int   // after the last one
		want bool
	}{
		{"never seen", nil, 0, false},
		{"one day", []int{0}, 0, false},
		{"several times on one day", []int{0, 0, 0, 0}, 0, false},
		{"two days", []int{0, 1}, 0, false},
		{"three days in a row", []int{0, 1, 1}, 0, true},
		{"three days within thirty", []int{0, 14, 15}, 0, true},
		{"three days, the first thirty days ago", []int{0, 15, 15}, 0, false},
		{"three days, seen 27 days ago", []int{0, 1, 1}, 27, true},
		{"three days, one of which is too long ago", []int{0, 1, 1}, 28, false},
		{"all long ago", []int{0, 1, 1}, 400, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(promises.Options{})
			for _, d := range c.days {
				f.days(d)
				f.Observe(domain, with(promises.Prefix))
			}
			f.days(c.wait)
			require.Equal(t, c.want, len(f.History(domain).Kinds) > 0)
			f.Observe(domain, promises.Answer{})
			f.Observe(domain, promises.Answer{})
			n := strings.Count(f.log.String(), "promise vanished from an unsigned answer")
			require.Equal(t, map[bool]int{true: 1}[c.want], n, "one warning, for an established promise only")
			require.EqualValues(t, n, f.Stats().Vanished)
		})
	}
}

func TestAnAuthenticAnswerWithdrawsAPromise(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.DANE)
	f.Observe(domain, promises.Answer{Authentic: true})
	require.Empty(t, f.History(domain).Kinds)
	require.Zero(t, f.Stats())
	f.Observe(domain, promises.Answer{})
	require.NotContains(t, f.log.String(), "level=WARN")
	require.Contains(t, f.log.String(), "promise withdrawn by an authentic answer")
}

func TestAnotherKindOfPromiseReplacesOne(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	f.Observe(domain, with(promises.MTASTS))
	require.NotContains(t, f.log.String(), "level=WARN")
	f.Observe(domain, promises.Answer{})
	require.Contains(t, f.log.String(), "promise=prefix", "the new kind was seen on one day only")
}

func TestAPromiseThatReturnsAndVanishesAgainIsReportedTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.MTASTS)
	f.Observe(domain, promises.Answer{})
	require.Len(t, f.Vanished(), 1)
	f.Observe(domain, with(promises.MTASTS))
	require.Empty(t, f.Vanished())
	f.Observe(domain, promises.Answer{})
	require.EqualValues(t, 2, f.Stats().Vanished)
	f.days(31)
	require.Empty(t, f.Vanished()[0].Kinds, "what was not seen for thirty days is no longer missed")
	require.Zero(t, f.Stats().Missing)
}

// look does what a lookup in mode hold does with an answer that has no promise, and reports whether it was held.
func (f fixture) look() bool {
	m := f.History(domain)
	held := len(m.Kinds) > 0 && m.Holdable
	f.Observe(domain, promises.Answer{Held: held})
	return held
}

func TestAHoldLastsSixHoursOnceInThirtyDays(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	require.True(t, f.look())
	require.Equal(t, f.now.Add(6*time.Hour).Unix(), f.History(domain).Until.Unix())
	f.pass(6*time.Hour - time.Second)
	require.True(t, f.look())
	require.Equal(t, 1, f.Stats().Held)
	f.pass(time.Second)
	require.False(t, f.look(), "six hours are the most")
	require.Contains(t, f.log.String(), "new answer accepted after a hold")
	require.Empty(t, f.History(domain).Kinds, "the new answer is remembered")
	f.days(1)
	f.establish(promises.Prefix)
	require.False(t, f.look(), "once in thirty days")
	f.days(26)
	f.establish(promises.Prefix)
	require.True(t, f.look(), "thirty days later")
}

func TestAHoldContinuesWhenThePromiseReturnsForAMoment(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	require.True(t, f.look())
	f.pass(time.Hour)
	f.Observe(domain, with(promises.Prefix))
	require.Zero(t, f.History(domain).Until)
	f.pass(time.Hour)
	require.True(t, f.look())
	f.pass(4 * time.Hour)
	require.False(t, f.look(), "six hours after the first answer without the promise")
}

func TestForgetEndsAHold(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	require.False(t, f.Forget(domain))
	f.establish(promises.Prefix)
	require.True(t, f.look())
	require.True(t, f.Forget(domain))
	require.False(t, f.look())
	require.Empty(t, f.List())
}

func TestASecondResolverEndsAHoldWhenItAgreesTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	f.Agree(domain, true)
	require.True(t, f.look(), "agreement before a hold counts for nothing")
	f.Agree(domain, true)
	f.pass(29 * time.Minute)
	f.Agree(domain, true)
	require.True(t, f.look(), "29 minutes are not enough")
	f.Agree(domain, false)
	f.pass(29 * time.Minute)
	f.Agree(domain, true)
	require.True(t, f.look(), "a different answer starts again")
	f.pass(30 * time.Minute)
	f.Agree(domain, true)
	require.False(t, f.look())
}

func TestTheClockMaySlip(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	f.days(-10)
	require.Len(t, f.History(domain).Kinds, 1)
	f.Observe(domain, with(promises.Prefix))
	f.days(-4000)
	f.Observe(domain, with(promises.Prefix))
	f.now = time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Observe(domain, with(promises.Prefix))
	require.Len(t, f.History(domain).Kinds, 1, "days in the future still count")
	f.now = newClock().now
	f.days(12)
	require.True(t, f.look())
	f.days(-1)
	require.True(t, f.look(), "a hold that began in the future starts again")
	f.pass(6 * time.Hour)
	require.False(t, f.look())
	require.Empty(t, f.History(domain).Kinds, "the new answer is remembered, as after every hold")
}

// A promise that was seen while the clock was years ahead is remembered by the right clock too.
func TestTheClockWasInTheFarFuture(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.Observe(domain, with(promises.Prefix))
	f.days(4000)
	f.Observe(domain, with(promises.Prefix))
	f.days(-4000)
	f.pass(time.Hour)
	f.establish(promises.Prefix)
	require.Len(t, f.History(domain).Kinds, 1)
	e, _ := f.Get(domain)
	require.Equal(t, promises.DayOf(f.now), e.Seen[0].Last)
	f.days(28)
	require.Empty(t, f.History(domain).Kinds)
}

// A clock that is years behind at the start, before time synchronization, costs no memory.
func TestTheClockIsInThePastAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(promises.Options{StateDir: dir})
		f.establish(promises.Prefix)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, f.Run(ctx), context.Canceled)
		right := f.now
		now := right.Add(-4000 * 24 * time.Hour)
		s := promises.New(promises.Options{StateDir: dir, Now: func() time.Time { return now }})
		s.Observe(domain, with(promises.Prefix))
		now = now.Add(59 * time.Minute)
		s.Observe(domain, with(promises.Prefix))
		now = right
		require.Len(t, s.History(domain).Kinds, 1)
		require.ErrorIs(t, s.Run(ctx), context.Canceled)
	})
}

func TestMergeOnlyAdds(t *testing.T) {
	t.Parallel()
	a, b := newFixture(promises.Options{}), newFixture(promises.Options{})
	a.Observe(domain, with(promises.Prefix))
	b.days(1)
	b.Observe(domain, with(promises.Prefix))
	b.days(2)
	b.Observe(domain, with(promises.Prefix))
	seen, last, _ := b.Share(domain)
	require.Equal(t, b.now.Truncate(24*time.Hour), last)
	merge := func(data []byte) (merged bool) {
		merged, err := a.Merge(domain, data, last)
		require.NoError(t, err)
		return merged
	}
	_, err := a.Merge(domain, seen, last)
	require.Error(t, err, "days in the future")
	a.days(3)
	require.True(t, merge(seen))
	require.Equal(t, []promises.Kind{promises.Prefix}, a.History(domain).Kinds, "one day here and two days there")
	before, _ := a.Get(domain)
	require.False(t, merge(make([]byte, len(seen))))
	require.False(t, merge(seen))
	after, _ := a.Get(domain)
	require.Equal(t, before, after)
	require.True(t, b.Forget(domain))
	seen, _, _ = b.Share(domain)
	require.Nil(t, seen)
}

func TestTheMemoryIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{Max: 100})
	f.establish(promises.Prefix)
	f.days(-3)
	for i := range 1000 {
		f.Observe(fmt.Sprintf("d%d.example", i), with(promises.DANE))
	}
	require.Len(t, f.List(), 100)
	f.days(3)
	require.Len(t, f.History(domain).Kinds, 1, "those seen least recently go first")
	f.Observe("none.example", promises.Answer{})
	require.Len(t, f.List(), 100, "a domain without a promise takes no place")
}

func TestAHundredThousandDomainsTakeLessThan16MiB(t *testing.T) {
	f := newFixture(promises.Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range promises.MaxDomains {
		f.Observe(fmt.Sprintf("some-company-%d.example.com", i), with(promises.Prefix))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Len(t, f.List(), promises.MaxDomains)
	require.Less(t, after.HeapAlloc-before.HeapAlloc, uint64(16<<20))
	runtime.KeepAlive(f)
}

func TestPromisesSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(promises.Options{StateDir: dir})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		f.establish(promises.Prefix)
		require.True(t, f.look())
		f.Observe("other.example", with(promises.DANE))
		f.Observe("removed.example", with(promises.DANE))
		f.Forget("removed.example")
		time.Sleep(time.Second) // of the bubble's clock, and more than the pause between two writes
		synctest.Wait()
		want := f.List()
		require.Len(t, want, 2)

		copied := t.TempDir() // what kill -9 leaves behind
		b, err := os.ReadFile(filepath.Join(dir, "promises.db"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(copied, "promises.db"), b, 0o600))
		again := newFixture(promises.Options{StateDir: copied})
		again.now = f.now
		require.Equal(t, want, again.List())

		require.NoError(t, os.Remove(filepath.Join(dir, "promises.db")))
		time.Sleep(5 * time.Second)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
		third := newFixture(promises.Options{StateDir: dir})
		third.now = f.now
		require.Equal(t, want, third.List(), "a file that was removed is written again")
		require.Contains(t, f.log.String(), "state database was removed or replaced")
	})
}

func TestACorruptDatabaseIsSetAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "promises.db")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("not a database"), 1000), 0o600))
	f := newFixture(promises.Options{StateDir: dir})
	require.Empty(t, f.List())
	require.FileExists(t, file+".corrupt")
}

// The data of a peer is either refused or kept unchanged.
func FuzzSightings(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 2, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newFixture(promises.Options{})
		merged, err := s.Merge(domain, b, time.Time{})
		seen, _, _ := s.Share(domain)
		require.Equal(t, merged, seen != nil)
		if err == nil && merged {
			require.Equal(t, b, seen)
		}
	})
}
