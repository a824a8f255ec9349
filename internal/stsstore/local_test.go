package stsstore_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
)

// Without a free file descriptor nothing is known about a domain, and mail waits. As soon as there is one, the policy is
// fetched.
func TestAFailureOfThisMachineIsNotHeldAgainstADomain(t *testing.T) {
	t.Parallel()
	lacking := fmt.Errorf("dial tcp: %w", os.NewSyscallError("socket", syscall.EMFILE))
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		w.set(domain, "1", enforce)
		s := w.store(t, nil)
		w.change(func() { w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: lacking} })
		for range 3 {
			r := s.Lookup(t.Context(), domain, anything)
			require.Equal(t, "unknown", short(r))
			require.Contains(t, r.Why, "too many open files")
		}
		w.change(func() { w.fail = nil })
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "it does not count as a failure of the domain")
		w.change(func() { w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: lacking} })
		w.set(domain, "2", "")
		time.Sleep(ttl)
		require.Equal(t, found1+" stale", short(s.Lookup(t.Context(), domain, anything)), "a live policy still holds")

		w.change(func() { w.dnsErr = &dns.Error{Reason: "too many open files", Err: lacking} })
		require.Equal(t, "unknown", short(w.store(t, nil).Lookup(t.Context(), domain, anything)))
	})
}

// The addresses of a policy host come from the same resolver as everything else. It backs off by itself, and the fetch must
// not back off for longer than it does.
func TestAFailedAddressLookupIsRepeatedSoon(t *testing.T) {
	t.Parallel()
	dns := &dns.Error{Reason: "SERVFAIL"}
	for name, c := range map[string]struct {
		fail        mtasts.Error
		least, most int // fetches within ten minutes
	}{
		"no address was found":          {mtasts.Error{Err: dns}, 290, 340},
		"one family could be looked up": {mtasts.Error{Err: errors.Join(dns, syscall.ECONNREFUSED), Addr: netip.MustParseAddr("192.0.2.1")}, 10, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newInternet()
				w.set(domain, "1", enforce)
				s := w.store(t, nil)
				c.fail.Failure = mtasts.FetchError
				w.change(func() { w.fail = &c.fail })
				for range 600 {
					require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, anything)))
					time.Sleep(time.Second)
				}
				require.GreaterOrEqual(t, w.fetches(), c.least)
				require.LessOrEqual(t, w.fetches(), c.most)

				s = w.store(t, nil)
				require.Equal(t, "failed sts-policy-fetch-error", short(s.Lookup(t.Context(), domain, anything)))
				w.change(func() { w.fail = nil })
				time.Sleep(2 * time.Second)
				require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)), "a short failure is over soon")
			})
		})
	}
}

// A machine without IPv6 reports EADDRNOTAVAIL or ENETUNREACH, always: mail must not wait for that.
func TestAMissingAddressFamilyIsAFailedFetch(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.EAFNOSUPPORT} {
		w := newInternet()
		w.set(domain, "1", enforce)
		w.change(func() { w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: os.NewSyscallError("connect", errno)} })
		require.Equal(t, "failed sts-policy-fetch-error", short(w.store(t, nil).Lookup(t.Context(), domain, anything)), errno)
	}
}
