package stsstore_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
)

// TestWhatThisMachineLacksSaysNothingOfADomain: without a file descriptor nothing is known, and mail waits; with one again all is
// well at once.
func TestWhatThisMachineLacksSaysNothingOfADomain(t *testing.T) {
	t.Parallel()
	lacking := fmt.Errorf("dial tcp: %w", os.NewSyscallError("socket", syscall.EMFILE))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		w.change(func() { w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: lacking} })
		for range 3 {
			r := s.Lookup(t.Context(), domain)
			require.Equal(t, "unknown", short(r))
			require.Contains(t, r.Why, "too many open files")
		}
		w.change(func() { w.fail = nil })
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain)), "it is not held against the domain")
		w.change(func() { w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: lacking} })
		w.set(domain, "2", "")
		time.Sleep(ttl)
		require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), domain)), "what is live holds")

		w.change(func() { w.dnsErr = &dns.Error{Reason: "too many open files", Err: lacking} })
		require.Equal(t, "unknown", short(w.store(t, nil).Lookup(t.Context(), domain)))
	})
}

// TestAResolverThatFailsIsAskedAgainSoon: the address of a policy host is looked up by our own resolver.
func TestAResolverThatFailsIsAskedAgainSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		w.change(func() {
			w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: &dns.Error{Reason: "SERVFAIL"}}
		})
		for range 600 {
			require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain)))
			time.Sleep(time.Second)
		}
		require.Less(t, w.fetches(), 20, "less and less often")
		require.Greater(t, w.fetches(), 10, "but at least once a minute")

		s = w.store(t, nil)
		require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain)))
		w.change(func() { w.fail = nil })
		time.Sleep(2 * time.Second)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain)), "a short failure is over soon")
	})
}

// TestAFamilyThatThisMachineLacksIsNoReasonToWait: without IPv6 it says EADDRNOTAVAIL or ENETUNREACH, for ever.
func TestAFamilyThatThisMachineLacksIsNoReasonToWait(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.EAFNOSUPPORT} {
		w := newWorld()
		w.set(domain, "1", enforce)
		w.change(func() { w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: os.NewSyscallError("connect", errno)} })
		require.Equal(t, "failed sts-policy-fetch-error", short(w.store(t, nil).Lookup(t.Context(), domain)), errno)
	}
}
