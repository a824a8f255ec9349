package stub

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnsmsg"
	"github.com/policyd/policyd/internal/testkit"
)

// logged has the log of a Stub on that server written to the buffer.
func (s *Stub) logged(t *testing.T, server string) *testkit.Log {
	t.Helper()
	log := &testkit.Log{}
	require.NoError(t, s.Configure(Options{Servers: []string{server}, Logger: log.Logger()}))
	return log
}

// "one log line that names the cause": a resolver that is slow in everything. The log reports the beginning and the
// end.
func TestAServerThatAnswersLateIsReported(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		log := s.logged(t, "127.0.0.1")
		require.Equal(t, Validating, s.waitFor(t, 0))
		const late, again = "a DNS server answers late", "a DNS server answers in time again"
		lookup := func(name string) {
			_, err := s.Lookup(t.Context(), mxOf(name), dns.Effort{})
			require.NoError(t, err)
		}
		w.set(func() { w.slow = func(dnsmsg.Query) time.Duration { return 2 * time.Second } })
		time.Sleep(time.Minute)
		require.NotContains(t, log.String(), late, "nothing was looked up")
		lookup("a.example")
		time.Sleep(watchInterval + 3*time.Second)
		require.Equal(t, 1, strings.Count(log.String(), late), log)
		require.Contains(t, log.String(), "level=WARN")
		require.Contains(t, log.String(), "server=127.0.0.1:53 took=2s")
		for range 100 {
			lookup("b.example")
			time.Sleep(watchInterval)
		}
		require.Equal(t, 1, strings.Count(log.String(), late), "it continues")
		require.NotContains(t, log.String(), again)
		w.set(func() { w.slow = nil })
		time.Sleep(watchInterval + 3*time.Second)
		require.Equal(t, 1, strings.Count(log.String(), again), "without a lookup")

		w.set(func() { w.slow = func(dnsmsg.Query) time.Duration { return 2 * time.Second } })
		lookup("c.example")
		time.Sleep(time.Minute)
		require.Equal(t, 2, strings.Count(log.String(), late))
		w.set(func() { w.slow = nil })
		time.Sleep(time.Minute)
		for range 20 { // it comes and goes
			w.set(func() { w.slow = func(dnsmsg.Query) time.Duration { return time.Second } })
			lookup("c.example")
			time.Sleep(5 * time.Second)
			w.set(func() { w.slow = nil })
			time.Sleep(5 * time.Second)
		}
		require.LessOrEqual(t, strings.Count(log.String(), late), 2+20*11/60+1, "at most once per minute")
	})
}

// The owner of a domain can make its name servers slow. That is not the resolver's fault.
func TestASlowDomainIsNotALateServer(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		log := s.logged(t, "127.0.0.1")
		require.Equal(t, Validating, s.waitFor(t, 0))
		w.set(func() {
			w.slow = func(q dnsmsg.Query) time.Duration {
				if q.Name == "." {
					return 900 * time.Millisecond
				}
				return 2 * time.Second
			}
		})
		for range 20 {
			_, err := s.Lookup(t.Context(), mxOf("slow.example"), dns.Effort{})
			require.NoError(t, err)
			time.Sleep(5 * time.Second)
		}
		require.NotContains(t, log.String(), "answers late")
		asked := 0
		w.set(func() { asked = len(w.times) })
		time.Sleep(7 * time.Minute) // until before the next self-test
		w.set(func() { require.Len(t, w.times, asked, "it is watched once for a late answer") })
	})
}
