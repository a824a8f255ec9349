package stub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// failing looks up a name and requires that this fails.
func (s *Stub) failing(t *testing.T, q dns.Question) {
	t.Helper()
	_, err := s.Lookup(t.Context(), q, dns.Effort{})
	require.Error(t, err)
}

// requireNoOutage requires that no outage is reported.
func (s *Stub) requireNoOutage(t *testing.T) {
	t.Helper()
	st := s.State()
	require.Zero(t, st.FailingSince)
	require.Empty(t, st.FailingReason)
}

// No server answers. One name is enough, because a query of our own fails too.
func TestMuteServersAreAnOutage(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.8", "127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		w.set(func() { w.dead["127.0.0.9"] = false })
		require.Equal(t, Validating, s.waitFor(t, 2*maxTestBackOff))
		w.set(func() { w.dead["127.0.0.9"] = true })
		_, err := s.Lookup(t.Context(), mxOf("a.example"), dns.Effort{})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		s.requireNoOutage(t) // one of two answers
		w.set(func() { w.dead["127.0.0.8"] = true })
		time.Sleep(time.Minute)
		s.requireNoOutage(t) // nothing was looked up

		since := time.Now()
		s.failing(t, mxOf("a.example"))
		s.requireNoOutage(t) // the name may be at fault
		time.Sleep(2 * (2*s.current.Load().options.Timeout + watchInterval))
		st := s.State()
		require.True(t, since.Equal(st.FailingSince), st.FailingSince)
		require.Contains(t, []string{"127.0.0.8:53: timed out", "127.0.0.9:53: timed out"}, st.FailingReason)

		w.set(func() { w.dead["127.0.0.8"], w.dead["127.0.0.9"] = false, false })
		time.Sleep(2 * (s.current.Load().options.Timeout + watchInterval))
		s.requireNoOutage(t) // it has ended without a lookup
	})
}

// A resolver without an uplink answers from its cache, perhaps also the self-test names, and SERVFAIL to all else.
func TestAnswersOfOnlySERVFAILAreAnOutage(t *testing.T) {
	t.Parallel()
	for name, cached := range map[string]bool{"to everything": false, "except from its cache": true} {
		running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
			require.Equal(t, Validating, s.waitFor(t, 0), name)
			w.set(func() { w.fails = func(q dnsmsg.Query) bool { return q.Name != "." || !cached } })
			since := time.Now()
			s.failing(t, mxOf("a.example"))
			s.failing(t, mxOf("b.example"))
			s.failing(t, mxOf("c.example"))
			s.requireNoOutage(t) // too short
			time.Sleep(minOutage)
			st := s.State()
			require.True(t, since.Equal(st.FailingSince), name)
			require.Equal(t, "127.0.0.1:53: SERVFAIL", st.FailingReason, name)
			time.Sleep(time.Hour)
			require.True(t, since.Equal(s.State().FailingSince), name)

			w.set(func() { w.fails = nil })
			time.Sleep(watchInterval)
			s.requireNoOutage(t)
		})
	}
}

// The first answer ends it.
func TestAnAnswerEndsAnOutage(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		w.set(func() { w.fails = func(q dnsmsg.Query) bool { return q.Type == dns.TypeMX } })
		for _, name := range []string{"a.example", "b.example", "c.example"} {
			s.failing(t, mxOf(name))
		}
		time.Sleep(minOutage)
		require.NotZero(t, s.State().FailingSince)
		_, err := s.Lookup(t.Context(), dns.Question{Name: "a.example", Type: dns.TypeTXT}, dns.Effort{})
		require.NoError(t, err)
		s.requireNoOutage(t)
	})
}

// Bogus domains are not the fault of a server: one that is asked for again and again, or many beside a sound one.
func TestBogusDomainsAreNotAnOutage(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		asked := 0
		w.set(func() {
			w.fails = func(q dnsmsg.Query) bool {
				if q.Name == "." {
					asked++
				}
				return q.Name != "." && q.Name != "sound.example."
			}
		})
		for range 100 {
			s.failing(t, mxOf("bogus.example"))
			s.failing(t, dns.Question{Name: "bogus.example", Type: dns.TypeA})
			s.failing(t, dns.Question{Name: "_mta-sts.bogus.example", Type: dns.TypeTXT})
			s.failing(t, dns.Question{Name: "_25._tcp.bogus.example", Type: dns.TypeTLSA})
			time.Sleep(minOutage)
			s.requireNoOutage(t)
		}
		time.Sleep(watchInterval)
		w.set(func() { asked = 0 })
		time.Sleep(time.Minute)
		w.set(func() { require.Zero(t, asked, "the servers are watched once for each failure") })
		for range 100 {
			s.failing(t, mxOf("a.example"))
			s.failing(t, mxOf("b.example"))
			_, err := s.Lookup(t.Context(), mxOf("sound.example"), dns.Effort{})
			require.NoError(t, err)
			s.failing(t, mxOf("c.example"))
			s.failing(t, mxOf("d.example"))
			time.Sleep(minOutage)
			s.requireNoOutage(t)
		}
	})
}

// A caller that gives up early says nothing about the servers.
func TestACancelledLookupIsNotAnOutage(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		w.set(func() { w.dead["127.0.0.9"] = false })
		require.Equal(t, Validating, s.waitFor(t, 2*maxTestBackOff))
		w.set(func() { w.dead["127.0.0.9"] = true })
		for _, name := range []string{"a.example", "b.example", "c.example"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := s.Lookup(ctx, mxOf(name), dns.Effort{})
			require.Error(t, err)
			cancel()
		}
		time.Sleep(time.Minute)
		s.requireNoOutage(t)
	})
}

// A lookup that began before the last success and fails after it says nothing about the servers now.
func TestALateFailureIsNotAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &health{outages: new(atomic.Uint32)}
		fail := func(began time.Time) {
			for _, name := range []string{"a.example", "b.example", "c.example"} {
				h.failed(mxOf(name), began, "timed out")
			}
		}
		began := time.Now()
		fail(began)
		time.Sleep(minOutage - 1)
		since, reason := h.failingSince()
		require.Zero(t, since)
		require.Empty(t, reason)
		time.Sleep(time.Nanosecond)
		since, reason = h.failingSince()
		require.Equal(t, began, since)
		require.Equal(t, "timed out", reason)

		h.succeeded()
		require.EqualValues(t, 1, h.outages.Load())
		fail(began)
		h.noteOwnQuery(began, false)
		time.Sleep(time.Hour)
		since, _ = h.failingSince()
		require.Zero(t, since)
		h.succeeded()
		require.EqualValues(t, 1, h.outages.Load())
	})
}

// The outage of the previous servers says nothing about the new ones.
func TestOtherServersEndAnOutage(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		w.set(func() { w.fails = func(q dnsmsg.Query) bool { return q.Name != "." } })
		for _, name := range []string{"a.example", "b.example", "c.example"} {
			s.failing(t, mxOf(name))
		}
		time.Sleep(minOutage)
		require.NotZero(t, s.State().FailingSince)
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.1"}}))
		require.NotZero(t, s.State().FailingSince, "the same server as before")
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.2"}}))
		s.requireNoOutage(t)
	})
}

// The back-off of names that failed during an outage, up to five minutes (RFC 9520 section 3.2), ends with the
// outage, even if nothing else is looked up.
func TestFailuresOfAnOutageEndWithIt(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		w.set(func() { w.dead["127.0.0.9"] = false })
		require.Equal(t, Validating, s.waitFor(t, 2*maxTestBackOff))
		c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
		w.set(func() { w.dead["127.0.0.9"] = true })
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := c.Lookup(ctx, mxOf("a.example"), dns.Effort{})
			return err
		}
		for range 600 {
			require.Error(t, ask())
			time.Sleep(time.Second)
		}
		w.set(func() { w.log = nil })
		for range 60 {
			require.Error(t, ask())
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, len(w.log), 2, "during the outage the back-off holds")
		w.set(func() { w.dead["127.0.0.9"] = false })
		time.Sleep(2*watchInterval + s.current.Load().options.Timeout)
		require.NoError(t, ask())
		time.Sleep(20 * time.Second) // let calls that have begun end
	})
}

// A resolver that answers SERVFAIL to everything, or to all that is not in its cache, for 20 minutes: two seconds after
// its first success every name is asked for again.
func TestFailuresOfAnOutageEndWithTheFirstSuccess(t *testing.T) {
	t.Parallel()
	for name, sound := range map[string]func(q dnsmsg.Query) bool{
		"everything fails":         func(dnsmsg.Query) bool { return false },
		"our own question is kept": func(q dnsmsg.Query) bool { return q.Name == "." },
	} {
		running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
			require.Equal(t, Validating, s.waitFor(t, 0), name)
			c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
			w.set(func() { w.fails = func(q dnsmsg.Query) bool { return !sound(q) } })
			names := []string{"a.example", "b.example", "c.example", "d.example"}
			for range 20 * 60 {
				for _, name := range names {
					_, err := c.Lookup(t.Context(), mxOf(name), dns.Effort{})
					require.Error(t, err)
				}
				time.Sleep(time.Second)
			}
			w.set(func() { w.fails = nil })
			time.Sleep(watchInterval)
			synctest.Wait()
			for _, name := range names {
				_, err := c.Lookup(t.Context(), mxOf(name), dns.Effort{})
				require.NoError(t, err, name)
			}
		})
	}
}

// On a machine that seldom asks, one or two names fail. The first success of any other name ends their back-off.
func TestASuccessAfterAQuietOutageEndsTheBackOff(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
		w.set(func() { w.fails = func(q dnsmsg.Query) bool { return q.Name != "." } })
		for range 20 * 60 {
			_, err := c.Lookup(t.Context(), mxOf("a.example"), dns.Effort{})
			require.Error(t, err)
			time.Sleep(time.Second)
		}
		w.set(func() { w.fails = nil })
		_, err := c.Lookup(t.Context(), mxOf("a.example"), dns.Effort{})
		require.Error(t, err, "it backs off")
		_, err = c.Lookup(t.Context(), mxOf("b.example"), dns.Effort{})
		require.NoError(t, err)
		_, err = c.Lookup(t.Context(), mxOf("a.example"), dns.Effort{})
		require.NoError(t, err)
	})
}

// A domain whose name servers are silent, or that is bogus, is not an outage: its back-off stays in force.
func TestABadDomainKeepsItsBackOff(t *testing.T) {
	t.Parallel()
	for name, slow := range map[string]time.Duration{"silent": time.Hour, "bogus": 0} {
		running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
			require.Equal(t, Validating, s.waitFor(t, 0), name)
			c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
			bad := func(q dnsmsg.Query) bool { return q.Name == "bad.example." }
			w.set(func() {
				w.fails = bad
				w.slow = func(q dnsmsg.Query) time.Duration {
					if bad(q) {
						return slow
					}
					return 0
				}
			})
			asked := 0
			for i := range 600 {
				before := len(w.log)
				_, err := c.Lookup(t.Context(), mxOf("bad.example"), dns.Effort{})
				require.Error(t, err)
				if len(w.log) > before {
					asked++
				}
				_, err = c.Lookup(t.Context(), mxOf(fmt.Sprint("sound", i, ".example")), dns.Effort{})
				require.NoError(t, err)
				time.Sleep(time.Second)
			}
			require.Less(t, asked, 12, name)
		})
	}
}

// A beginning is logged at most once a minute, and an end only if its beginning was.
func TestAConditionIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServers(onThisMachine(), nil)[0]
		begins, ends := 0, 0
		for range 10 * 60 {
			if s.mustLog("silent") {
				begins++
			}
			if s.mustLog("") {
				ends++
			}
			time.Sleep(time.Second)
		}
		require.Equal(t, 10, begins)
		require.Equal(t, begins, ends)
		time.Sleep(time.Minute)
		require.True(t, s.mustLog("silent"))
		time.Sleep(time.Hour)
		require.False(t, s.mustLog("silent"), "it continues")
		require.True(t, s.mustLog("late"), "another condition")
	})
}

// A name whose name servers are silent takes its own time and never that of other names, with one server and with two.
func TestASilentNameDelaysNoOther(t *testing.T) {
	t.Parallel()
	for _, servers := range [][]string{{"127.0.0.1"}, {"127.0.0.1", "127.0.0.2"}} {
		running(t, servers, func(t *testing.T, s *Stub, w *fakeWire) {
			require.Equal(t, Validating, s.waitFor(t, 0))
			log := s.logged(t, servers[0])
			if len(servers) > 1 {
				require.NoError(t, s.Configure(Options{Servers: servers}))
			}
			require.Equal(t, Validating, s.waitFor(t, 0))
			w.set(func() {
				w.slow = func(q dnsmsg.Query) time.Duration {
					if strings.HasPrefix(q.Name, "silent") {
						return time.Hour
					}
					return 0
				}
			})
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					_, err := s.Lookup(t.Context(), mxOf(fmt.Sprintf("silent%d.example", i)), dns.Effort{})
					require.Error(t, err)
				})
			}
			for i := range 200 {
				time.Sleep(100 * time.Millisecond)
				began := time.Now()
				r, err := s.Lookup(t.Context(), mxOf(fmt.Sprintf("sound%d.example", i)), dns.Effort{})
				require.NoError(t, err)
				require.Equal(t, dns.Secure, r.Status)
				require.Zero(t, time.Since(began))
			}
			all.Wait()
			s.requireNoOutage(t)
			require.NotContains(t, log.String(), "does not answer", "the server is not to blame")
		})
	}
}

// A short outage that a question of our own confirmed ends back-offs too. Failures that it did not confirm do not.
func TestAShortOutageEndsBackOffs(t *testing.T) {
	t.Parallel()
	for _, confirmed := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := &health{outages: new(atomic.Uint32)}
			began := time.Now()
			h.failed(mxOf("a.example"), began, "timed out")
			time.Sleep(watchInterval)
			h.noteOwnQuery(began, !confirmed)
			time.Sleep(time.Second)
			h.succeeded()
			require.Equal(t, confirmed, h.outages.Load() == 1)
		})
	}
}

// The sum of both parts of an epoch is a version for callers that remember answers: other servers never repeat one.
func TestAnEpochNeverDecreases(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Servers: []string{"127.0.0.1"}})
	require.NoError(t, err)
	h := s.current.Load().health
	h.failed(mxOf("a.example"), time.Now(), "timed out")
	h.noteOwnQuery(time.Now(), false)
	h.succeeded()
	before := s.Epoch()
	require.EqualValues(t, 1, before.Failures)
	require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.2"}}))
	after := s.Epoch()
	require.Greater(t, after.Answers, before.Answers)
	require.Equal(t, before.Failures, after.Failures)
}
