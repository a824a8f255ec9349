package stub

import (
	"context"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// failing asks for something that fails.
func (s *Stub) failing(t *testing.T, q dns.Question) {
	t.Helper()
	_, err := s.Lookup(t.Context(), q, dns.Effort{})
	require.Error(t, err)
}

// requireNoDrought requires that nothing is said of the list as a whole.
func (s *Stub) requireNoDrought(t *testing.T) {
	t.Helper()
	st := s.State()
	require.Zero(t, st.FailingSince)
	require.Empty(t, st.FailingReason)
}

// No server answers, and one name suffices to tell: a question of our own fails too.
func TestMuteServersAreADrought(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.8", "127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		w.set(func() { w.dead["127.0.0.9"] = false })
		require.Equal(t, Validating, s.waitFor(t, 2*selfTestLate))
		w.set(func() { w.dead["127.0.0.9"] = true })
		_, err := s.Lookup(t.Context(), mxOf("a.example"), dns.Effort{})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		s.requireNoDrought(t) // one of two answers
		w.set(func() { w.dead["127.0.0.8"] = true })
		time.Sleep(time.Minute)
		s.requireNoDrought(t) // nobody has asked

		since := time.Now()
		s.failing(t, mxOf("a.example"))
		s.requireNoDrought(t) // it may be the name's fault
		time.Sleep(2 * (2*s.now.Load().options.Timeout + silentInterval))
		st := s.State()
		require.True(t, since.Equal(st.FailingSince), st.FailingSince)
		require.Contains(t, []string{"127.0.0.8:53: timed out", "127.0.0.9:53: timed out"}, st.FailingReason)

		w.set(func() { w.dead["127.0.0.8"], w.dead["127.0.0.9"] = false, false })
		time.Sleep(2 * (s.now.Load().options.Timeout + silentInterval))
		s.requireNoDrought(t) // it has ended, and nobody has asked
	})
}

// A resolver that has lost its uplink answers what it knows by heart, such as the self-test names, and SERVFAIL to all else.
func TestNothingButSERVFAILIsADrought(t *testing.T) {
	t.Parallel()
	for name, byHeart := range map[string]bool{"to everything": false, "but for what it knows by heart": true} {
		running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
			require.Equal(t, Validating, s.waitFor(t, 0), name)
			w.set(func() { w.fails = func(q miekg.Question) bool { return q.Name != "." || !byHeart } })
			since := time.Now()
			s.failing(t, mxOf("a.example"))
			s.failing(t, mxOf("b.example"))
			s.failing(t, mxOf("c.example"))
			s.requireNoDrought(t) // too short
			time.Sleep(droughtLeast)
			st := s.State()
			require.True(t, since.Equal(st.FailingSince), name)
			require.Equal(t, "127.0.0.1:53: SERVFAIL", st.FailingReason, name)
			time.Sleep(time.Hour)
			require.True(t, since.Equal(s.State().FailingSince), name)

			w.set(func() { w.fails = nil })
			time.Sleep(silentInterval)
			s.requireNoDrought(t)
		})
	}
}

// An answer ends it at once.
func TestAnAnswerEndsADrought(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		w.set(func() { w.fails = func(q miekg.Question) bool { return q.Qtype == miekg.TypeMX } })
		for _, name := range []string{"a.example", "b.example", "c.example"} {
			s.failing(t, mxOf(name))
		}
		time.Sleep(droughtLeast)
		require.NotZero(t, s.State().FailingSince)
		_, err := s.Lookup(t.Context(), dns.Question{Name: "a.example", Type: dns.TypeTXT}, dns.Effort{})
		require.NoError(t, err)
		s.requireNoDrought(t)
	})
}

// Bogus domains are the fault of nobody here: one that is asked for again and again, and many beside one that is sound.
func TestBogusDomainsAreNoDrought(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		asked := 0
		w.set(func() {
			w.fails = func(q miekg.Question) bool {
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
			time.Sleep(droughtLeast)
			s.requireNoDrought(t)
		}
		time.Sleep(silentInterval)
		w.set(func() { asked = 0 })
		time.Sleep(time.Minute)
		require.Zero(t, asked, "the servers are looked at once for each failure")
		for range 100 {
			s.failing(t, mxOf("a.example"))
			s.failing(t, mxOf("b.example"))
			_, err := s.Lookup(t.Context(), mxOf("sound.example"), dns.Effort{})
			require.NoError(t, err)
			s.failing(t, mxOf("c.example"))
			s.failing(t, mxOf("d.example"))
			time.Sleep(droughtLeast)
			s.requireNoDrought(t)
		}
	})
}

// A caller that had enough says nothing about the servers.
func TestACancelledLookupIsNoDrought(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		w.set(func() { w.dead["127.0.0.9"] = false })
		require.Equal(t, Validating, s.waitFor(t, 2*selfTestLate))
		w.set(func() { w.dead["127.0.0.9"] = true })
		for _, name := range []string{"a.example", "b.example", "c.example"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := s.Lookup(ctx, mxOf(name), dns.Effort{})
			require.Error(t, err)
			cancel()
		}
		time.Sleep(time.Minute)
		s.requireNoDrought(t)
	})
}

// What was asked before the last answer and fails after it is of the time before; so it is with other servers.
func TestLateFailuresAreNoDrought(t *testing.T) {
	t.Parallel()
	var d drought
	asked := time.Now()
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		d.failed(mxOf(name), asked, "timed out")
	}
	since, reason := d.state(asked.Add(droughtLeast - 1))
	require.Zero(t, since)
	require.Empty(t, reason)
	since, reason = d.state(asked.Add(droughtLeast))
	require.Equal(t, asked, since)
	require.Equal(t, "timed out", reason)

	d.ends(asked.Add(time.Second))
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		d.failed(mxOf(name), asked, "timed out")
		d.checked(asked, true)
	}
	since, _ = d.state(asked.Add(time.Hour))
	require.Zero(t, since)
}

// Other servers begin anew.
func TestOtherServersEndADrought(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		w.set(func() { w.fails = func(q miekg.Question) bool { return q.Name != "." } })
		for _, name := range []string{"a.example", "b.example", "c.example"} {
			s.failing(t, mxOf(name))
		}
		time.Sleep(droughtLeast)
		require.NotZero(t, s.State().FailingSince)
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.1"}}))
		require.NotZero(t, s.State().FailingSince, "the same server as before")
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.2"}}))
		s.requireNoDrought(t)
	})
}
