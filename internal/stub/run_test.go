package stub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// exchanger answers in place of the servers.
type exchanger interface {
	exchange(ctx context.Context, s Server, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error)
}

func exchangeOf(w exchanger) func(*server, context.Context, dnsmsg.Query, time.Time) (*dnsmsg.Answer, error) {
	return func(s *server, ctx context.Context, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
		return w.exchange(ctx, s.Server, q, until)
	}
}

// fakeWire is an exchanger that records when it was asked.
type fakeWire struct {
	began time.Time

	mu    sync.Mutex
	times []time.Duration // when NS "." was asked, once for each self-test
	log   []string        // for all other questions: when, server, timeout
	dead  map[string]bool
	weak  bool
	fails func(q dnsmsg.Query) bool // the queries that get SERVFAIL; nil: none
	slow  func(q dnsmsg.Query) time.Duration
}

func (w *fakeWire) exchange(ctx context.Context, s Server, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	w.mu.Lock()
	switch {
	case q.Type == dns.TypeNS && q.Name == ".":
		w.times = append(w.times, time.Since(w.began))
	case q.Class == dnsmsg.ClassINET && q.Type != dns.TypeNS && q.Name != "." && q.Name != "com.":
		w.log = append(w.log, fmt.Sprint(time.Since(w.began), " ", s.Addr.Addr(), " ", time.Until(until)))
	}
	dead, weak := w.dead[s.Addr.Addr().String()], w.weak
	fails := w.fails != nil && w.fails(q)
	var delay time.Duration
	if w.slow != nil {
		delay = w.slow(q)
	}
	w.mu.Unlock()
	if dead {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if delay > 0 { // timers that have expired already crash the race detector in a synctest bubble
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m := response(q)
	if fails {
		m.Rcode = miekg.RcodeServerFailure
		return answerOf(q, m)
	}
	m.AuthenticatedData = q.Class == dnsmsg.ClassINET && !weak
	if q.Type == dns.TypeMX {
		m.Answer = []miekg.RR{&miekg.MX{Hdr: miekg.RR_Header{Name: q.Name, Rrtype: miekg.TypeMX, Class: miekg.ClassINET, Ttl: 300}, Preference: 10, Mx: "mx.example."}}
	}
	return answerOf(q, m)
}

func (w *fakeWire) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func mxOf(name string) dns.Question { return dns.Question{Name: name, Type: dns.TypeMX} }

// status looks a name up and returns the status of the answer, or the reason of the error.
func status(r dns.Resolver, q dns.Question, e dns.Effort) string {
	rrset, err := r.Lookup(context.Background(), q, e)
	if err != nil {
		return err.Error()
	}
	return rrset.Status.String()
}

// running runs f beside a Stub on servers of a fake wire, in a bubble of time.
func running(t *testing.T, servers []string, f func(t *testing.T, s *Stub, w *fakeWire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Servers: servers})
		require.NoError(t, err)
		w := &fakeWire{began: time.Now(), dead: map[string]bool{"127.0.0.9": true}}
		s.exchange = exchangeOf(w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		f(t, s, w)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func (s *Stub) waitFor(t *testing.T, d time.Duration) Result {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	return s.State().Result
}

// "Self-test at start …, then every 10 minutes and on reload."
func TestRunRepeatsTheSelfTest(t *testing.T) {
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Validating, s.waitFor(t, 0))
		require.Equal(t, Validating, s.waitFor(t, 25*time.Minute))
		require.Equal(t, []time.Duration{0, 10 * time.Minute, 20 * time.Minute}, w.times)
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.1"}}))
		s.waitFor(t, 0)
		require.Len(t, w.times, 4)
		w.set(func() { w.weak = true })
		require.Equal(t, NotValidating, s.waitFor(t, 10*time.Minute))
		w.set(func() { w.weak = false })
		require.Equal(t, Validating, s.waitFor(t, time.Second), "what is not right is looked at again soon")
	})
}

// "repeated with back-off from 1 s to 30 s until it succeeds, so that a resolver started later is trusted within the
// minute"
func TestRunTrustsAResolverThatComesUpLater(t *testing.T) {
	running(t, []string{"127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		require.Equal(t, Unknown, s.waitFor(t, time.Hour))
		require.Contains(t, s.State().Reason, "127.0.0.9:53: timed out")
		const test = 6 * time.Second // two names, 3 s each
		at := []time.Duration{0}
		for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
			at = append(at, at[len(at)-1]+test+wait*time.Second)
		}
		require.Equal(t, at, w.times[:len(at)])

		w.set(func() { w.dead["127.0.0.9"] = false })
		require.Equal(t, Validating, s.waitFor(t, time.Minute))
		_, err := s.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
		require.NoError(t, err)
	})
}

func TestLookupWaitsForAResolverThatComesUp(t *testing.T) {
	running(t, []string{"127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 5*time.Second)
		w.set(func() { w.dead["127.0.0.9"] = false })
		r, err := s.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, dns.Secure, r.Status)

		w.set(func() { w.dead["127.0.0.8"] = true })
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.8"}}))
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		_, err = s.Lookup(ctx, dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
		require.ErrorContains(t, err, "it has not ended yet")
		require.Equal(t, 4*time.Second, time.Since(began), "as long as the caller's context allows")
		// A lookup for the MX RRset has six seconds. Mail is deferred because there is no resolver, and not because
		// there was no answer in time.
		_, err = s.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
		require.ErrorContains(t, err, "the self-test of the resolver has no result: 127.0.0.8:53: timed out")
		require.Equal(t, 9*time.Second, time.Since(began), "but not indefinitely")
	})
}

// A lookup that waits for the first self-test has the epoch after it, and asks once.
func TestCacheAsksOnceDuringTheFirstSelfTest(t *testing.T) {
	running(t, []string{"127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
		time.AfterFunc(2*time.Second, func() { w.set(func() { w.dead["127.0.0.9"] = false }) })
		require.Equal(t, "secure", status(c, mxOf("example.com"), dns.Effort{}))
		require.Equal(t, "secure", status(c, mxOf("example.com"), dns.Effort{CacheOnly: true}))
		require.Len(t, w.log, 1)
	})
}

// A test of servers that are no longer used is cancelled.
func TestConfigureEndsATest(t *testing.T) {
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 0)
		w.set(func() { w.dead["127.0.0.1"] = true })
		require.Equal(t, Validating, s.waitFor(t, 10*time.Minute+time.Second), "in the middle of a test")
		require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.2"}}))
		require.Equal(t, Validating, s.waitFor(t, 0))
		require.Equal(t, []string{"127.0.0.2:53"}, s.State().Servers)
	})
}

// "Times: 3 s, then the next server 5 s, 12 s per lookup, all under the caller's context."
func TestTimes(t *testing.T) {
	question := dns.Question{Name: "example.com", Type: dns.TypeMX}
	failing := func(t *testing.T, s *Stub, timeout, takes time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		began := time.Now()
		_, err := s.Lookup(ctx, question, dns.Effort{})
		var failed *dns.Error
		require.ErrorAs(t, err, &failed)
		require.Contains(t, failed.Reason, "timed out")
		require.Equal(t, takes, time.Since(began))
	}
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 0)
		w.set(func() { w.dead["127.0.0.1"] = true })
		failing(t, s, time.Hour, 8*time.Second)
		require.Equal(t, []string{"0s 127.0.0.1 3s", "3s 127.0.0.1 5s"}, w.log)
		failing(t, s, 4*time.Second, 4*time.Second)
		failing(t, s, time.Second, time.Second)
	})
	running(t, []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 0)
		w.set(func() { w.dead["127.0.0.1"], w.dead["127.0.0.2"], w.dead["127.0.0.3"] = true, true, true })
		failing(t, s, time.Hour, 12*time.Second)
		require.Equal(t, []string{"0s 127.0.0.1 3s", "3s 127.0.0.2 5s", "8s 127.0.0.3 4s"}, w.log)
	})
}

func TestADeadServerDelaysOneLookup(t *testing.T) {
	running(t, []string{"127.0.0.1", "127.0.0.2"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 0)
		w.set(func() { w.dead["127.0.0.1"] = true })
		slow := 0
		lookup := func() {
			began := time.Now()
			r, err := s.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
			if err != nil || r.Status != dns.Secure {
				t.Error("one dead server must not defer mail")
			}
			if time.Since(began) > 0 {
				slow++
			}
		}
		for range 5 * 60 {
			lookup()
			time.Sleep(time.Second)
		}
		require.Equal(t, 1, slow, "only a question of our own is sent to a dead server")

		w.set(func() { w.dead["127.0.0.1"], w.log = false, nil })
		time.Sleep(2 * watchInterval)
		for range 10 {
			lookup()
		}
		for _, line := range w.log {
			require.Contains(t, line, "127.0.0.1", "back in its place")
		}
	})
}

// A server that did not answer may have been restarted with other settings.
func TestAServerThatComesBackIsTested(t *testing.T) {
	running(t, []string{"127.0.0.1"}, func(t *testing.T, s *Stub, w *fakeWire) {
		s.waitFor(t, 0)
		w.set(func() { w.dead["127.0.0.1"] = true })
		_, err := s.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
		require.Error(t, err)
		require.Len(t, s.Silent(), 1)
		w.set(func() { w.dead["127.0.0.1"], w.weak = false, true })
		_, err = s.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, NotValidating, s.waitFor(t, 0))
		require.Empty(t, s.Silent())
	})
}

// The answer of a lookup that began in one epoch is not used in another, and neither is its failure: the cache asks
// again.
func TestLookupAcrossAChange(t *testing.T) {
	for _, failure := range []error{nil, errors.New("the network is down")} {
		synctest.Test(t, func(t *testing.T) {
			s, err := New(Options{Servers: []string{"127.0.0.1"}})
			require.NoError(t, err)
			w := &slowWire{release: make(chan struct{}), first: failure}
			s.exchange = exchangeOf(w)
			require.True(t, s.SelfTest(t.Context()))
			c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
			done := make(chan error)
			var r *dns.RRset
			go func() {
				var err error
				r, err = c.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
				done <- err
			}()
			synctest.Wait()
			require.NoError(t, s.Configure(Options{Servers: []string{"127.0.0.1"}, Trust: TrustNever}))
			close(w.release)
			require.NoError(t, <-done)
			require.Equal(t, dns.Insecure, r.Status)
			require.Equal(t, 2, w.asked, "asked again")
		})
	}
}

// A resolver that is always slow can still validate.
func TestSelfTestOfASlowResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Servers: []string{"127.0.0.1"}})
		require.NoError(t, err)
		s.exchange = exchangeOf(lateWire(2 * time.Second))
		require.True(t, s.SelfTest(t.Context()))
		require.Equal(t, Validating, s.State().Result)
		s.exchange = exchangeOf(lateWire(4 * time.Second))
		require.False(t, s.SelfTest(t.Context()))
		require.Equal(t, Validating, s.State().Result, "a test without a result changes nothing")
	})
}

// lateWire answers after a delay.
type lateWire time.Duration

func (w lateWire) exchange(ctx context.Context, _ Server, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	select {
	case <-time.After(time.Duration(w)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m := response(q)
	m.AuthenticatedData = q.Class == dnsmsg.ClassINET
	return answerOf(q, m)
}

// slowWire answers for MX when it is released.
type slowWire struct {
	release chan struct{}
	first   error // of the first question
	asked   int
}

func (w *slowWire) exchange(ctx context.Context, _ Server, q dnsmsg.Query, until time.Time) (*dnsmsg.Answer, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if q.Type == dns.TypeMX {
		w.asked++
		select {
		case <-w.release:
			if w.asked == 1 && w.first != nil {
				return nil, w.first
			}
		case <-ctx.Done():
			return nil, errors.New("not released")
		}
	}
	m := response(q)
	m.AuthenticatedData = q.Class == dnsmsg.ClassINET
	return answerOf(q, m)
}

func response(q dnsmsg.Query) *miekg.Msg {
	asked := miekg.Question{Name: q.Name, Qtype: uint16(q.Type), Qclass: q.Class}
	return &miekg.Msg{MsgHdr: miekg.MsgHdr{Response: true}, Question: []miekg.Question{asked}}
}

// answerOf returns the answer that a message to a query is.
func answerOf(q dnsmsg.Query, m *miekg.Msg) (*dnsmsg.Answer, error) {
	octets, err := m.Pack()
	if err != nil {
		return nil, err
	}
	return dnsmsg.Read(octets, m.Id, q)
}
