package dnscache

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// sound checks that the parts of a shard agree.
func (s *shard) sound(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, bytes := 0, int64(0)
	for slot, n := range s.ring {
		entries += n.count()
		bytes += n.weigh()
		require.EqualValues(t, slot, n.slot)
		require.Same(t, n, s.node(n.domain()))
		for key := range n.entries {
			e, of := s.get(n.question(key), dns.Epoch{})
			require.Equal(t, n.question(key).Name, e.Name)
			require.Equal(t, n.question(key).Type, e.Type)
			require.Same(t, n, of)
		}
	}
	require.Equal(t, len(s.ring), s.nodes.ItemCount())
	require.Equal(t, entries, s.count)
	require.Equal(t, bytes, s.bytes)
	require.LessOrEqual(t, entries, s.limit)
	require.LessOrEqual(t, s.bytes, s.bytesLimit)
}

// sweep does what Run does periodically.
func (s *shard) sweep(now time.Time, g dns.Epoch) {
	s.removeIf(func() dns.Epoch { return g }, func(e *entry) bool { return e.removable(now) })
}

// refresh looks a question up as a refresh does.
func (c *Cache) refresh(q dns.Question) { _, _ = c.ask(q) }

func (c *Cache) sound(t *testing.T) {
	t.Helper()
	for _, s := range c.shards {
		s.sound(t)
	}
}

// "a hard bound, hot keys survive a flood"
func TestBoundFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Insecure, time.Hour, false)}
		const bound = 6400
		c := New(next, Options{MaxEntries: bound})
		const hot = 500
		name := func(i int) dns.Question { return mxOf(fmt.Sprint("hot", i, ".example")) }
		next.set(says(dns.Secure, time.Hour, false))
		for i := range hot {
			require.Equal(t, "secure", gets(c, name(i)))
		}
		next.set(says(dns.Insecure, time.Hour, false))
		for i := range 4 * bound {
			flood, effort := mxOf(fmt.Sprint("flood", i, ".example")), dns.Effort{Untrusted: i%2 == 0}
			require.Equal(t, "insecure", gets(c, flood, effort))
			if effort.Untrusted {
				gets(c, flood, effort) // an untrusted lookup does not count as use
			}
			if i%100 == 0 {
				for i := range hot {
					require.Equal(t, "secure", cached(c, name(i)))
				}
			}
		}
		c.sound(t)
		st := c.Stats()
		require.LessOrEqual(t, st.Entries, bound)
		require.Greater(t, st.Entries, bound*9/10)
		require.EqualValues(t, 4*bound+hot-st.Entries, st.Evicted)
	})
}

func TestBoundSmallAndChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Insecure, time.Hour, false)}
		c := New(next, Options{MaxEntries: 1})
		fill := func(n int) {
			for i := range n {
				require.Equal(t, "insecure", gets(c, mxOf(fmt.Sprint("d", i, ".example"))))
				gets(c, mxOf(fmt.Sprint("d", i, ".example")))
			}
			c.sound(t)
		}
		fill(1000)
		require.Equal(t, shardCount, c.Stats().Entries, "never less than one per shard")
		require.Equal(t, shardCount, c.Stats().MaxEntries)
		for _, n := range []int{shardCount + 1, 1000, 12_345} {
			c.SetMaxEntries(n)
			require.Equal(t, n, c.Stats().MaxEntries)
		}
		c.SetMaxEntries(-1)
		fill(1000)
		require.Equal(t, 1000, c.Stats().Entries)
		c.SetMaxEntries(640)
		require.Equal(t, 1000, c.Stats().Entries, "it goes as new entries come")
		for i := range 2000 {
			gets(c, mxOf(fmt.Sprint("more", i, ".example")))
		}
		c.sound(t)
		require.Equal(t, 640, c.Stats().Entries)
		c.SetMaxEntries(64)
		next.set(says(dns.Insecure, 2*time.Hour, false))
		time.Sleep(time.Hour)
		fill(1000)
		require.Equal(t, 64, c.Stats().Entries)
		for range 3 {
			require.Equal(t, 64, c.Flush(dns.Matching("")))
			c.sound(t)
			require.Zero(t, c.Flush(dns.Matching("")))
			require.Zero(t, c.Stats().Bytes)
			fill(1000)
		}
	})
}

// unsaid stores an insecure denial.
func (s *shard) unsaid(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := unknown(mxOf(name))
	e.Status = dns.Insecure
	s.put(s.nodeWith(mxOf(name), &e))
}

// Names in use stay, whether refreshed or not, and others are evicted.
func TestBoundEvictsUnusedNames(t *testing.T) {
	var stats counters
	s := newShard(&stats)
	s.limit, s.bytesLimit = 3, 1<<20
	for _, name := range []string{"hot", "unused", "refreshed"} {
		s.unsaid(name)
		s.node(name).used.Store(name != "unused")
	}
	s.unsaid("refreshed")
	s.unsaid("new")
	require.Nil(t, s.node("unused"))
	require.NotNil(t, s.node("hot"))
	require.NotNil(t, s.node("refreshed"))
	s.unsaid("newer")
	require.NotNil(t, s.node("refreshed"), "its mark goes over to the new answer")
	s.sound(t)
}

// A hit marks its name as used, whether it is an answer or a failure, unless the lookup is untrusted.
func TestBoundCountsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, say := range []func(q dns.Question) (*dns.RRset, error){says(dns.Secure, time.Hour, false), fails} {
			c, q := New(&facts{say: say}, Options{}), mxOf("example.com")
			used := func() bool { return c.shardOf(q).node(q.Name).used.Load() }
			gets(c, q)
			require.False(t, used(), "storing is not use")
			gets(c, q, dns.Effort{Untrusted: true})
			require.False(t, used())
			gets(c, q)
			require.True(t, used())
			gets(c, q, dns.Effort{Untrusted: true})
			require.True(t, used(), "it stays used")
		}
	})
}

// Names in use stay in a flood of others, although answers are stored again: that moves no name closer to the pointer.
func TestBoundNamesKeepTheirPlaces(t *testing.T) {
	var stats counters
	s := newShard(&stats)
	const bound, hot = 100, 10
	s.limit, s.bytesLimit = bound, 1<<20
	name := func(i int) string { return fmt.Sprint("hot", i%hot) }
	for i := range hot {
		s.unsaid(name(i))
	}
	for i := range 100 * bound {
		if i%(bound/2) == 0 {
			for h := range hot {
				require.NotNil(t, s.node(name(h)), i)
				s.node(name(h)).used.Store(true)
			}
		}
		s.unsaid(fmt.Sprint("flood", i))
		if i%3 == 0 {
			s.unsaid(name(i))
		}
	}
	s.sound(t)
}

// An answer evicts other names before those of its own host, and stays whole where there is no other name.
func TestBoundOfOneName(t *testing.T) {
	var stats counters
	s := newShard(&stats)
	s.limit, s.bytesLimit = 3, 1<<20
	s.unsaid("a")
	s.unsaid("mx")
	s.unsaid("_25._tcp.mx")
	s.unsaid("_26._tcp.mx")
	require.Nil(t, s.node("a"))
	require.Equal(t, 3, s.node("mx").count())
	s.unsaid("_mta-sts.mx")
	require.Equal(t, 4, s.node("mx").count(), "a single node stays whole")
	s.unsaid("b")
	require.Nil(t, s.node("mx"))
	s.sound(t)
	require.EqualValues(t, 5, stats.evicted.Load())
}

// The eviction pointer stops although every entry is marked again before it arrives.
func TestBoundEvictionEnds(t *testing.T) {
	var stats counters
	s := newShard(&stats)
	s.limit, s.bytesLimit = 4, 1<<20
	for i := range 4 {
		s.unsaid(fmt.Sprint(i))
	}
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for !stop.Load() {
			for _, q := range []string{"0", "1", "2", "3"} {
				if n := s.node(q); n != nil {
					n.used.Store(true)
				}
			}
		}
	})
	for i := range 2000 {
		s.unsaid(fmt.Sprint("n", i))
	}
	stop.Store(true)
	all.Wait()
	s.sound(t)
	require.EqualValues(t, 2000, stats.evicted.Load())
}

// Huge answers are bounded by their size, and do not evict everything else.
func TestBoundBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		c := New(next, Options{MaxEntries: 6400})
		for i := range 1000 {
			gets(c, mxOf(fmt.Sprint("d", i, ".example")))
		}
		of := func(hosts int) func(q dns.Question) (*dns.RRset, error) {
			return func(q dns.Question) (*dns.RRset, error) {
				r, _ := says(dns.Insecure, time.Hour, false)(q)
				r.Records = nil
				for range hosts {
					r.Records = append(r.MX(), dns.MX{Preference: 10, Host: strings.Repeat("x", 250)})
				}
				return r, nil
			}
		}
		next.set(of(4000)) // about a megabyte each
		for i := range 20 {
			require.Equal(t, "insecure", gets(c, mxOf(fmt.Sprint("huge", i, ".example"))))
		}
		c.sound(t)
		require.Equal(t, 1000, c.Stats().Entries)
		next.set(of(200)) // about 50 KiB each
		for i := range 1500 {
			require.Equal(t, "insecure", gets(c, mxOf(fmt.Sprint("large", i, ".example"))))
		}
		c.sound(t)
		require.LessOrEqual(t, c.Stats().Bytes, int64(32<<20))
		require.Greater(t, c.Stats().Bytes, int64(24<<20))
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("huge7.example")))
		// An entry that grows too large is evicted.
		next.set(says(dns.Secure, time.Hour, false))
		gets(c, mxOf("grows.example"))
		next.set(func(q dns.Question) (*dns.RRset, error) {
			r, _ := of(4000)(q)
			r.Status = dns.Secure
			return r, nil
		})
		c.refresh(mxOf("grows.example"))
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf("grows.example")))
		c.sound(t)
	})
}

// A bound on the size holds whatever the number of entries may be.
func TestBoundBytesGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		c := New(&facts{say: says(dns.Secure, time.Hour, false)}, Options{MaxEntries: 1_000_000, MaxBytes: most})
		fill := func() {
			for i := range 10_000 {
				gets(c, mxOf(fmt.Sprint("d", i, ".example")))
			}
			c.sound(t)
			require.LessOrEqual(t, c.Stats().Bytes, int64(most))
			require.Greater(t, c.Stats().Bytes, int64(most/2))
			require.EqualValues(t, most, c.Stats().MaxBytes)
			require.Positive(t, c.Stats().Evicted)
		}
		fill()
		c.SetMaxEntries(2_000_000)
		fill()
		c.SetMaxEntries(64)
		require.EqualValues(t, most, c.Stats().MaxBytes)
	})
}

func TestSweep(t *testing.T) {
	cachedRun(t, func(t *testing.T, c *Cache, next *facts) {
		for i := range 2000 {
			next.set(says(dns.Insecure, time.Duration(i+1)*time.Second, false))
			gets(c, mxOf(fmt.Sprint("d", i, ".example")))
		}
		next.set(fails)
		gets(c, mxOf("failed.example"))
		require.Equal(t, 2001, c.Stats().Entries)
		time.Sleep(1000 * time.Second)
		require.LessOrEqual(t, c.Stats().Entries, 1000+shardCount)
		c.sound(t)
		time.Sleep(1100 * time.Second)
		require.Zero(t, c.Stats().Entries)
		require.Zero(t, c.Stats().Bytes)
	})
}

// Everything concurrently, for the race detector.
func TestCacheConcurrent(t *testing.T) {
	var n atomic.Int64
	next := &facts{say: func(q dns.Question) (*dns.RRset, error) {
		switch n.Add(1) % 5 {
		case 0:
			return fails(q)
		case 1:
			return says(dns.Insecure, time.Microsecond*100, false)(q)
		}
		return says(dns.Secure, time.Millisecond, false)(q)
	}}
	c := New(next, Options{MaxEntries: 128, Epoch: next.now})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				q := dns.Question{Name: fmt.Sprint("d", rand.IntN(300), ".example"), Type: []dns.Type{dns.TypeMX, dns.TypeTLSA}[rand.IntN(2)]}
				switch rand.IntN(20) {
				case 0:
					c.Flush(dns.Within(q.Name))
				case 1:
					c.List(dns.Matching("d1"), 10)
				case 2:
					c.shards[rand.IntN(shardCount)].sweep(time.Now(), c.options.Epoch())
				case 3:
					c.Stats()
				case 4:
					c.SetMaxEntries(64 + rand.IntN(256))
				case 5:
					next.change(dns.Epoch{Answers: uint32(rand.IntN(3))})
				case 6:
					c.refresh(q)
				default:
					_, _ = c.Lookup(t.Context(), q, dns.Effort{})
				}
			}
		})
	}
	all.Wait()
	c.SetMaxEntries(128)
	for i := range 2000 {
		gets(c, mxOf(fmt.Sprint("last", i, ".example")))
	}
	c.Flush(dns.Matching(""))
	c.sound(t)
}

// The estimate of the size is close to the truth.
func TestBytesIsAnHonestEstimate(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	require.LessOrEqual(t, reflect.TypeFor[node]().Size(), uintptr(24), "the next size that the runtime has is 32")
	before := heap()
	c, questions := full(t, 50_000)
	grown := heap() - before - int64(cap(questions))*int64(reflect.TypeFor[dns.Question]().Size())
	said := c.Stats().Bytes
	t.Logf("%d entries, estimated %d bytes each, really %d", c.Stats().Entries, said/int64(c.Stats().Entries), grown/int64(c.Stats().Entries))
	require.InEpsilon(t, grown, said, 0.3)
	runtime.KeepAlive(questions)
}

// An answer with a different spelling of the name is stored, unchanged, under the name of the question.
func TestKeptUnderTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{}
		var said *dns.RRset
		next.set(func(q dns.Question) (*dns.RRset, error) {
			said = &dns.RRset{Name: `a\.b.example`, Type: q.Type, Owner: `a\.b.example`, Status: dns.Secure, Expires: time.Now().Add(time.Hour), Records: []dns.MX{{Preference: 10, Host: "mx.example"}}}
			return said, nil
		})
		c := New(next, Options{})
		q := mxOf(`a\046b.example`)
		for range 2 {
			r, err := c.Lookup(t.Context(), q, dns.Effort{})
			require.NoError(t, err)
			require.Equal(t, said.Status, r.Status)
			require.Equal(t, said.Records, r.Records)
			require.Equal(t, r.Name, r.Owner, "not an alias")
		}
		require.Equal(t, 1, next.queries())
		require.Equal(t, dns.ErrNotCached.Error(), cached(c, mxOf(`a\.b.example`)))
		next.set(fails)
		c.refresh(q)
		require.Equal(t, "secure", gets(c, q))
		require.Equal(t, []string{q.Name}, []string{c.List(dns.Within(q.Name), 0)[0].Name})
		c.sound(t)
		require.Equal(t, 1, c.Flush(dns.Within(q.Name)))
	})
}
