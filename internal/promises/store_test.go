package promises_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/promises"
)

func TestASignedAnswerLaterInTheDayIsNoted(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.Observe(domain, with(promises.Prefix))
	f.Observe(domain, promises.Answer{Kinds: []promises.Kind{promises.Prefix}, Authentic: true})
	e, _ := f.Get(domain)
	require.True(t, e.Seen[0].Signed)
}

func TestSeenIsCalledOnceADay(t *testing.T) {
	t.Parallel()
	var seen []string
	f := newFixture(promises.Options{Seen: func(domain string) { seen = append(seen, domain) }})
	f.Observe(domain, with(promises.Prefix))
	f.Observe(domain, with(promises.Prefix))
	require.Equal(t, []string{domain}, seen)
	f.days(1)
	f.Observe(domain, with(promises.Prefix))
	require.Len(t, seen, 2)
}

func TestOnlyAnAuthenticAnswerWithdrawsAPromise(t *testing.T) {
	t.Parallel()
	var withdrawn []string
	f := newFixture(promises.Options{Withdrawn: func(domain string) { withdrawn = append(withdrawn, domain) }})
	f.establish(promises.Prefix)
	require.True(t, f.look())
	f.pass(promises.HoldFor)
	require.False(t, f.look(), "the new answer is accepted")
	f.establish(promises.Prefix)
	f.Observe(domain, promises.Answer{})
	require.Empty(t, withdrawn)
	f.Observe(domain, promises.Answer{Authentic: true})
	require.Equal(t, []string{domain}, withdrawn)
	f.Observe("other.example", promises.Answer{Authentic: true})
	require.Len(t, withdrawn, 1)
}

func TestAgreementBeforeThePromiseReturnedCountsForNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	require.True(t, f.look())
	f.Agree(domain, true)
	f.Observe(domain, with(promises.Prefix))
	f.pass(time.Hour)
	require.True(t, f.look())
	f.Agree(domain, true)
	require.True(t, f.look())
}

func TestAPromiseNotSeenForThirtyDaysIsNoLongerMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	f.Observe(domain, promises.Answer{})
	require.Len(t, f.Vanished(), 1)
	f.days(31)
	f.Observe(domain, promises.Answer{})
	require.Empty(t, f.Vanished())
}

// A promise that vanishes again after its hold is reported and remembered; there is no second hold within thirty days.
func TestAPromiseThatVanishesAfterItsHold(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	require.True(t, f.look())
	f.pass(7 * time.Hour)
	require.False(t, f.look())
	_, remembered := f.Get(domain)
	require.False(t, remembered, "the new answer counts")
	require.Empty(t, f.List())
	f.days(1)
	f.establish(promises.Prefix)
	require.False(t, f.look())
	require.Len(t, f.Vanished(), 1)
	f.Observe(domain, promises.Answer{Held: true})
	require.Zero(t, f.History(domain).Until)
	require.Len(t, f.History(domain).Kinds, 1)
}

func TestAHoldThatASecondResolverEndedDoesNotEndTheNextOne(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	require.True(t, f.look())
	f.Agree(domain, true)
	f.pass(30 * time.Minute)
	f.Agree(domain, true)
	require.False(t, f.look())
	f.days(30)
	f.establish(promises.Prefix)
	require.True(t, f.look())
	require.NotZero(t, f.History(domain).Until)
	require.Len(t, f.Holds(), 1)
}

// A single equal answer of the second resolver never ends a hold, whatever it answered during an earlier hold.
func TestAgreementAboutAHoldEndsWithIt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(f fixture){
		"the domain withdraws its promise": func(f fixture) { f.Observe(domain, promises.Answer{Authentic: true}) },
		"the hold is over":                 func(f fixture) { f.pass(promises.HoldFor); require.False(t, f.look()) },
		"the domain is forgotten":          func(f fixture) { require.True(t, f.Forget(domain)) },
		"the domain is evicted":            func(f fixture) { f.Observe("other.example", with(promises.DANE)) },
	} {
		f := newFixture(promises.Options{Max: 1})
		f.establish(promises.Prefix)
		require.True(t, f.look())
		f.Agree(domain, true)
		end(f)
		f.days(31)
		f.establish(promises.Prefix)
		require.True(t, f.look(), name)
		f.Agree(domain, true)
		require.True(t, f.look(), name)
	}
}

// A promise that vanishes again when its hold has just ended is remembered, and not replaced by the new answer.
func TestAPromiseThatVanishesAgainAtTheEndOfAHold(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	require.True(t, f.look())
	f.pass(time.Hour)
	f.Observe(domain, with(promises.Prefix))
	require.Contains(t, f.log.String(), "promise is back")
	f.pass(promises.HoldFor - time.Hour)
	require.False(t, f.look())
	require.Len(t, f.History(domain).Kinds, 1)
}

// A domain that showed a promise only once has nothing to withdraw.
func TestNothingIsWithdrawnThatWasNotEstablished(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.Observe(domain, with(promises.Prefix))
	f.Observe(domain, promises.Answer{Authentic: true})
	require.Empty(t, f.log.String())
	require.Empty(t, f.List())
}

// The entry of a domain shows the promises that are established, and since when they are missing.
func TestWhatIsShownOfADomain(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	require.Zero(t, f.History("unknown.example"))
	f.establish(promises.Prefix)
	third := promises.DayOf(f.now)
	f.days(1)
	f.Observe(domain, with(promises.MTASTS))
	m := f.History(domain)
	require.Equal(t, 3, m.Days)
	require.Equal(t, third, m.Last, "MTA-STS was seen on one day only")
	e, _ := f.Get(domain)
	require.Len(t, e.Seen, 2)
	require.Equal(t, promises.MTASTS, e.Seen[1].Kind)
	require.Equal(t, uint16(1), e.Seen[1].Days)
	require.Zero(t, e.Missing)
	require.Zero(t, f.Stats().Missing)

	f.pass(time.Minute)
	f.Observe(domain, promises.Answer{})
	e, _ = f.Get(domain)
	require.Equal(t, f.now.Unix(), e.Missing.Unix())
	require.Equal(t, promises.Stats{Remembered: 1, Missing: 1, Vanished: 1}, f.Stats())
	f.days(31)
	e, _ = f.Get(domain)
	require.Zero(t, e.Missing, "what was not seen for thirty days is no longer missed")
}

// A domain that is forgotten or evicted is also removed from the disk.
func TestRemovedPromisesDoNotSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(promises.Options{StateDir: dir, Max: 2})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		f.Observe("evicted.example", with(promises.DANE))
		f.days(1)
		f.Observe("forgotten.example", with(promises.DANE))
		time.Sleep(time.Second)
		synctest.Wait() // both are on disk
		f.Observe("new.example", with(promises.DANE))
		require.True(t, f.Forget("forgotten.example"))
		synctest.Wait()
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Equal(t, []string{"new.example"}, newFixture(promises.Options{StateDir: dir}).Domains())
	})
}

func TestOnlyHeldDomainsAreAskedAbout(t *testing.T) {
	t.Parallel()
	f := newFixture(promises.Options{})
	f.establish(promises.Prefix)
	require.Empty(t, f.Holds())
	require.True(t, f.look())
	require.Equal(t, []string{domain}, f.Holds())
	f.pass(promises.HoldFor)
	require.Empty(t, f.Holds())
	f.Agree("unknown.example", true)
	_, known := f.Get("unknown.example")
	require.False(t, known)
}
