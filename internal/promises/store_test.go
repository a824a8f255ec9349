package promises_test

import (
	"testing"
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
	require.True(t, e.Seen[promises.Prefix].Signed)
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

func TestWhatWasNotSeenForThirtyDaysIsNoLongerMissing(t *testing.T) {
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
	f.days(1)
	f.establish(promises.Prefix)
	require.False(t, f.look())
	require.Len(t, f.Vanished(), 1)
	f.Observe(domain, promises.Answer{Held: true})
	require.Zero(t, f.Recall(domain).Until)
	require.Len(t, f.Recall(domain).Kinds, 1)
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
	require.NotZero(t, f.Recall(domain).Until)
	require.Len(t, f.Holds(), 1)
}
