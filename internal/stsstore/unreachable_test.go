package stsstore_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/testkit"
)

// failing looks up domains whose policy hosts are at the addresses, and fail with err.
func failing(t *testing.T, w *internet, s *stsstore.Store, err *mtasts.Error, addrs ...string) {
	t.Helper()
	for _, a := range addrs {
		e := *err
		if a != "proxy" {
			e.Addr = netip.MustParseAddr(a)
		}
		w.change(func() { w.fail = &e; w.serial++ })
		name := fmt.Sprintf("x%d.example", w.serial)
		w.set(name, "1", enforce)
		require.Equal(t, mtasts.Failed, s.Lookup(t.Context(), name, anything).State)
	}
	w.change(func() { w.fail = nil })
}

// If no policy of five domains in five networks can be fetched, the fault is most likely on this host. The log reports it
// once, and again when it ends.
func TestABlockedHostIsNoticed(t *testing.T) {
	t.Parallel()
	refused := &mtasts.Error{Failure: mtasts.FetchError, Err: errors.New("connection refused")}
	noRoots := &mtasts.Error{Failure: mtasts.WebPKIInvalid, Err: errors.New("unknown authority")}
	malformed := &mtasts.Error{Failure: mtasts.PolicyInvalid, Err: errors.New("malformed policy")}
	noDNS := &mtasts.Error{Failure: mtasts.FetchError, Err: &dns.Error{Reason: "SERVFAIL"}}
	four := []string{"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8:1::1"}
	five := []string{"11.0.0.1", "11.0.1.1", "11.1.0.1", "2600::1", "2600:0:1::1"}
	for _, c := range []struct {
		name    string
		do      func(t *testing.T, w *internet, s *stsstore.Store)
		blocked bool
	}{
		{"five networks", func(t *testing.T, w *internet, s *stsstore.Store) { t.Helper(); failing(t, w, s, refused, five...) }, true},
		{"no root certificates", func(t *testing.T, w *internet, s *stsstore.Store) { t.Helper(); failing(t, w, s, noRoots, five...) }, true},
		{"through a proxy", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			failing(t, w, s, refused, "proxy", "proxy", "proxy", "proxy", "proxy")
		}, true},
		{"behind NAT64", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			failing(t, w, s, refused, "64:ff9b::101:101", "64:ff9b::808:808", "64:ff9b::909:909", "64:ff9b::5db8:d822", "64:ff9b::b00:1")
		}, true},
		{"five loopback addresses", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			failing(t, w, s, refused, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
		}, true},
		{"four networks", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			failing(t, w, s, refused, append(four, four...)...)
		}, false},
		{"one network", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			failing(t, w, s, refused, "11.0.0.1", "11.0.0.2", "11.0.0.3", "11.0.0.4", "11.0.0.5", "11.0.0.6")
		}, false},
		{"one domain", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			w.set(domain, "1", enforce)
			for _, a := range five {
				e := *refused
				e.Addr = netip.MustParseAddr(a)
				w.change(func() { w.fail = &e })
				require.Equal(t, mtasts.Failed, s.Lookup(t.Context(), domain, anything).State)
				time.Sleep(day)
			}
		}, false},
		{"hosts that answer", func(t *testing.T, w *internet, s *stsstore.Store) { t.Helper(); failing(t, w, s, malformed, five...) }, false},
		{"one host that answers", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			failing(t, w, s, refused, five[:4]...)
			failing(t, w, s, malformed, five[4])
			failing(t, w, s, refused, five[4])
		}, false},
		{"no DNS", func(t *testing.T, w *internet, s *stsstore.Store) {
			t.Helper()
			failing(t, w, s, noDNS, "proxy", "proxy", "proxy", "proxy", "proxy")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, j := newInternet(), &testkit.Log{}
				s := w.store(t, func(o *stsstore.Options) { o.Logger = j.Logger() })
				begun := time.Now()
				c.do(t, w, s)
				require.Equal(t, !c.blocked, s.Stats().Blocked.IsZero())
				if !c.blocked {
					require.Zero(t, j.Count("level=WARN"))
					return
				}
				require.Equal(t, begun, s.Stats().Blocked)
				c.do(t, w, s)
				require.Equal(t, 1, j.Count("level=WARN"))
				require.Equal(t, 1, j.Count("no MTA-STS policy can be fetched from this host"))
				w.set(domain, "1", enforce)
				require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
				require.Zero(t, s.Stats().Blocked)
				require.Equal(t, 1, j.Count("MTA-STS policies can be fetched again"))
			})
		})
	}
}

// Domains that are broken stay broken while others work: they do not add up between two successes.
func TestBrokenDomainsAreNotABlockedHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newInternet()
		s := w.store(t, nil)
		w.set(domain, "1", enforce)
		require.Equal(t, found1, short(s.Lookup(t.Context(), domain, anything)))
		broken := map[string]string{}
		for i := range 10 {
			name := fmt.Sprintf("broken%d.example", i)
			broken[name] = fmt.Sprintf("11.0.%d.1", i)
			w.set(name, "1", enforce)
		}
		retry := func(names ...string) {
			for _, name := range names {
				w.change(func() {
					w.fail = &mtasts.Error{Failure: mtasts.FetchError, Err: errors.New("refused"), Addr: netip.MustParseAddr(broken[name])}
				})
				require.Equal(t, mtasts.Failed, s.Lookup(t.Context(), name, anything).State)
				w.change(func() { w.fail = nil })
			}
		}
		for i := range 10 { // each begins to fail between two successes
			retry(fmt.Sprintf("broken%d.example", i))
			time.Sleep(time.Minute)
			w.set(domain, fmt.Sprint("x", i), "")
			require.Equal(t, mtasts.Found, s.Lookup(t.Context(), domain, anything).State)
		}
		for range 5 {
			time.Sleep(time.Hour)
			for name := range broken {
				retry(name)
			}
		}
		require.Zero(t, s.Stats().Blocked)
	})
}
