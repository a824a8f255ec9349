package dnscache

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// model is the simplest form of the rules for one question.
type model struct {
	answer    *dns.RRset // the last that counted
	failing   bool
	failureOf dns.Epoch
	backOff   time.Duration
	retry     time.Time
	epoch     dns.Epoch
}

func (m *model) usable() bool {
	return m.answer != nil && m.answer.Epoch == m.epoch.Answers
}

func (m *model) live() bool { return m.usable() && time.Now().Before(m.answer.Expires) }

func (m *model) stale() bool {
	return m.usable() && m.answer.Status == dns.Secure && !m.answer.Stale && (len(m.answer.MX()) > 0 || len(m.answer.TLSA()) > 0) && time.Since(m.answer.Expires) <= time.Hour
}

func (m *model) backingOff() bool {
	return m.failing && m.failureOf == m.epoch && time.Now().Before(m.retry)
}

// cached returns what is known without asking; asks is set if there is nothing. A nil answer is a failure.
func (m *model) cached() (r *dns.RRset, asks bool) {
	switch {
	case m.live():
		return m.answer, false
	case m.backingOff() && m.stale():
		return m.answer, false
	case m.backingOff():
		return nil, false
	}
	return nil, true
}

// learn takes the result of the resolver, nil for a failure, and returns what the caller receives.
func (m *model) learn(r *dns.RRset) *dns.RRset {
	if r == nil {
		m.backOff = min(2*m.backOff, 5*time.Minute)
		if !m.failing || m.failureOf != m.epoch {
			m.backOff = time.Second
		}
		m.failing, m.failureOf, m.retry = true, m.epoch, time.Now().Add(m.backOff)
		if m.live() || m.stale() {
			return m.answer
		}
		m.answer = nil
		return nil
	}
	if m.live() && m.answer.Status == dns.Secure && (r.Status != dns.Secure || r.Stale) {
		return m.answer
	}
	m.failing, m.answer = false, r
	if !time.Now().Before(r.Expires) {
		m.answer = nil
	}
	return r
}

// sweep removes entries that can no longer be used.
func (m *model) sweep() {
	if !m.live() && !m.stale() && (!m.failing || m.failureOf != m.epoch || time.Since(m.retry) > 5*time.Minute) {
		*m = model{epoch: m.epoch}
	}
}

// comparison has a cache, its scripted resolver, and the model.
type comparison struct {
	rand  *rand.Rand
	cache *Cache
	next  *facts
	model map[dns.Question]*model
	now   dns.Epoch
	said  *dns.RRset // the answer to the last query, nil for a failure
	// secure is the last secure answer to each question in this epoch.
	secure map[dns.Question]*dns.RRset
}

func newComparison(seed uint64) *comparison {
	w := &comparison{rand: rand.New(rand.NewPCG(seed, 1)), model: map[dns.Question]*model{}, secure: map[dns.Question]*dns.RRset{}}
	w.next = &facts{}
	w.next.set(w.say)
	w.cache = New(w.next, Options{Epoch: w.next.now})
	for _, name := range []string{"a.example", "b.example"} {
		for _, t := range []dns.Type{dns.TypeMX, dns.TypeTLSA, dns.TypeA} {
			w.model[dns.Question{Name: name, Type: t}] = &model{}
		}
	}
	return w
}

// say makes up an answer.
func (w *comparison) say(q dns.Question) (*dns.RRset, error) {
	w.said = nil
	if w.rand.IntN(3) == 0 {
		return fails(q)
	}
	ttls := []time.Duration{0, time.Second, 30 * time.Second, time.Minute, time.Hour, 24 * time.Hour}
	ttl, denied := ttls[w.rand.IntN(len(ttls))], w.rand.IntN(3) == 0
	if denied {
		ttl = min(ttl, maxDenialTTL) // the cap would make a copy
	}
	w.said, _ = says(dns.Insecure+dns.Status(w.rand.IntN(2)), ttl, denied)(q)
	w.said.Stale = w.rand.IntN(8) == 0 && ttl <= maxStaleTTL
	return w.said, nil
}

func (w *comparison) question() (dns.Question, *model, dns.Effort) {
	q := dns.Question{Name: []string{"a.example", "b.example"}[w.rand.IntN(2)], Type: []dns.Type{dns.TypeMX, dns.TypeTLSA, dns.TypeA}[w.rand.IntN(3)]}
	m := w.model[q]
	return q, m, dns.Effort{Untrusted: w.rand.IntN(4) == 0}
}

// step does something at random, in the cache and in the model, and compares.
func (w *comparison) step(t *testing.T) string {
	t.Helper()
	q, m, effort := w.question()
	before := w.next.queries()
	switch action := w.rand.IntN(20); action {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		want, asks := m.cached()
		got, err := w.cache.Lookup(t.Context(), q, effort)
		require.Equal(t, asks, w.next.queries() > before, "a query is sent where nothing is known, and only there")
		if asks {
			want = w.learn(q, m)
		}
		w.compare(t, q, got, err, want)
		return "lookup"
	case 8, 9, 10:
		want, asks := m.cached()
		got, err := w.cache.Lookup(t.Context(), q, dns.Effort{CacheOnly: true, Untrusted: effort.Untrusted})
		require.Equal(t, before, w.next.queries())
		if asks {
			require.ErrorIs(t, err, dns.ErrNotCached)
			return "cached: nothing"
		}
		w.compare(t, q, got, err, want)
		return "cached"
	case 11, 12, 13:
		w.cache.refresh(q)
		w.learn(q, m)
		return "refresh"
	case 14, 15, 16:
		steps := []time.Duration{packedUnit, time.Second, 30 * time.Second, 5 * time.Minute, time.Hour, 24 * time.Hour}
		d := steps[w.rand.IntN(len(steps))]
		time.Sleep(d)
		return d.String()
	case 17:
		if w.rand.IntN(2) == 0 {
			w.now.Answers++
			clear(w.secure)
		} else {
			w.now.Failures++
		}
		w.next.change(w.now)
		for _, m := range w.model {
			m.epoch = w.now
		}
		return "epoch"
	case 18:
		for _, s := range w.cache.shards {
			s.sweep(time.Now(), w.now)
		}
		for _, m := range w.model {
			m.sweep()
		}
		return "sweep"
	default:
		w.cache.Flush(dns.Within(q.Name))
		for other, m := range w.model {
			if other.Name == q.Name {
				*m = model{epoch: w.now}
				delete(w.secure, other)
			}
		}
		return "flush"
	}
}

func (w *comparison) learn(q dns.Question, m *model) *dns.RRset {
	live := w.secure[q] != nil && time.Now().Before(w.secure[q].Expires)
	if w.said != nil && w.said.Status == dns.Secure && (!w.said.Stale || !live) {
		w.secure[q] = w.said
	}
	return m.learn(w.said)
}

// compare checks a result against the model, and, whatever the model says, that it is never weaker than the freshest
// facts that were secure and are live, and never older than they may be.
func (w *comparison) compare(t *testing.T, q dns.Question, got *dns.RRset, err error, want *dns.RRset) {
	t.Helper()
	require.Equal(t, want == nil, err != nil)
	require.Equal(t, want, got)
	if secure := w.secure[q]; secure != nil && time.Now().Before(secure.Expires) {
		require.Equal(t, secure, got, "weaker than the freshest facts that were secure and live")
	}
	if got == nil || w.said == got {
		return
	}
	if age := time.Since(got.Expires); age >= 0 {
		require.Equal(t, dns.Secure, got.Status, "stale")
		require.False(t, got.Empty(), "stale denial")
		require.LessOrEqual(t, age, time.Hour)
	}
}

// Random sequences of DNS facts, clock steps, failures, changes of the servers and lookups against the model.
func TestCacheModel(t *testing.T) {
	const seeds, steps = 100, 300
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			w := newComparison(seed)
			var done []string
			defer func() {
				if t.Failed() {
					fmt.Println("seed", seed, "steps", done)
				}
			}()
			for range steps {
				done = append(done, w.step(t))
			}
			w.cache.sound(t)
		})
	}
}
