package dnscache

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// names returns the names and types in one line.
func names(list []Entry) string {
	text := ""
	for _, e := range list {
		text += e.Name + "/" + e.Type.String() + " "
	}
	return text
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		c := New(next, Options{})
		stored := time.Now()
		gets(c, mxOf("example.com"))
		gets(c, dns.Question{Name: "_25._tcp.mx.Example.com", Type: dns.TypeTLSA})
		gets(c, dns.Question{Name: "mx.example.com", Type: dns.TypeA})
		gets(c, mxOf("notexample.com"))
		next.set(says(dns.Secure, time.Hour, true))
		gets(c, dns.Question{Name: "example.com", Type: dns.TypeTXT})
		next.set(func(dns.Question) (*dns.RRset, error) {
			return &dns.RRset{Status: dns.Insecure, Expires: time.Now().Add(time.Hour)}, nil
		})
		gets(c, mxOf("nodata.example"))
		next.set(fails)
		gets(c, mxOf("failed.example"))
		next.set(says(dns.Insecure, time.Second, false))
		gets(c, mxOf("short.example"))
		time.Sleep(time.Second)

		require.Equal(t, "_25._tcp.mx.example.com/TLSA example.com/MX example.com/TXT failed.example/MX mx.example.com/A nodata.example/MX notexample.com/MX ",
			names(c.List(dns.Matching(""), 0)), "by name and type, without what is of no use any more")
		for match, want := range map[string]string{
			"mx.":              "_25._tcp.mx.example.com/TLSA mx.example.com/A ",
			"EXAMPLE.com":      "_25._tcp.mx.example.com/TLSA example.com/MX example.com/TXT mx.example.com/A notexample.com/MX ",
			"*.example.com":    "_25._tcp.mx.example.com/TLSA mx.example.com/A ",
			"[a-f]*.example":   "failed.example/MX ",
			"not?xample.com":   "notexample.com/MX ",
			"[":                "",
			"none.example":     "",
			"_25._tcp.mx.exam": "_25._tcp.mx.example.com/TLSA ",
		} {
			require.Equal(t, want, names(c.List(dns.Matching(match), 0)), match)
		}
		require.Equal(t, "_25._tcp.mx.example.com/TLSA example.com/MX ", names(c.List(dns.Matching(""), 2)))
		require.NotNil(t, c.List(dns.Matching("none.example"), 0), "[] and not null in JSON")

		require.Equal(t, "_25._tcp.mx.example.com/TLSA example.com/MX example.com/TXT mx.example.com/A ", names(c.List(dns.Within("Example.com"), 0)))
		require.Empty(t, c.List(dns.Within("com.example"), 0))
		require.Equal(t, []Entry{{Name: "failed.example", Type: dns.TypeMX, Data: []string{}, Failure: "SERVFAIL", Retry: stored.Add(time.Second)}}, c.List(dns.Within("failed.example"), 0))
		require.Equal(t, []Entry{{Name: "nodata.example", Type: dns.TypeMX, Status: dns.Insecure, Data: []string{}, Stored: stored, Expires: stored.Add(time.Hour), Denial: "NODATA"}}, c.List(dns.Within("nodata.example"), 0))
		list := c.List(dns.Within("example.com"), 0)
		require.Equal(t, Entry{Name: "example.com", Type: dns.TypeMX, Status: dns.Secure, Stored: stored, Expires: stored.Add(time.Hour), Data: []string{"10 mx.example.com"}}, list[1])
		require.Equal(t, []string{"3 1 1 abcd"}, list[0].Data)
		require.Equal(t, "NXDOMAIN", list[2].Denial)

		// A live answer and a failure beside it.
		next.set(fails)
		c.refresh(mxOf("example.com"))
		e := c.List(dns.Within("example.com"), 0)[1]
		require.Equal(t, dns.Secure, e.Status)
		require.Equal(t, "SERVFAIL", e.Failure)
		require.Equal(t, []string{"10 mx.example.com"}, e.Data)
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		c := New(next, Options{})
		fill := func() {
			next.set(says(dns.Secure, time.Hour, false))
			for _, name := range []string{"example.com", "a.example.com", "b.a.example.com", "notexample.com", `odd\.example.com`, "com", "example.org"} {
				gets(c, mxOf(name))
			}
			next.set(fails)
			gets(c, mxOf("failed.example.com"))
		}
		fill()
		require.Zero(t, c.Flush(dns.Within("none.example")))
		require.Zero(t, c.Flush(dns.Within("")))
		require.Zero(t, c.Flush(dns.Within(".")))
		require.Equal(t, 4, c.Flush(dns.Within("EXAMPLE.com")), "the domain and all names below it, and no others")
		require.Equal(t, `com/MX example.org/MX notexample.com/MX odd\.example.com/MX `, names(c.List(dns.Matching(""), 0)))
		n := next.queries()
		next.set(says(dns.Insecure, time.Hour, false))
		require.Equal(t, "insecure", gets(c, mxOf("failed.example.com")), "failures too")
		require.Equal(t, "insecure", gets(c, mxOf("example.com")))
		require.Equal(t, n+2, next.queries())
		c.sound(t)
		fill()
		require.Equal(t, 8, c.Flush(dns.Matching("")))
		require.Empty(t, c.List(dns.Matching(""), 0))
		c.sound(t)
	})
}

// Every answer of the resolver is counted once, however often it is given.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(dns.Secure, time.Hour, false)}
		c := New(next, Options{})
		gets(c, mxOf("a.example"))
		gets(c, mxOf("a.example"))
		next.set(says(dns.Insecure, time.Hour, false))
		gets(c, mxOf("b.example"))
		cached(c, mxOf("c.example"))
		next.set(fails)
		gets(c, mxOf("d.example"))
		gets(c, mxOf("d.example"))
		next.set(func(q dns.Question) (*dns.RRset, error) {
			return nil, &dns.Error{Question: q, Reason: "SERVFAIL (DNSSEC Bogus)", Bogus: true}
		})
		gets(c, mxOf("e.example"))
		st := c.Stats()
		require.Positive(t, st.Bytes)
		st.Bytes = 0
		answers := map[string]uint64{"secure": 1, "insecure": 1, "bogus": 1, "failed": 1}
		require.Equal(t, Stats{Entries: 4, MaxEntries: 400_000, MaxBytes: MaxBytes(400_000), Hits: 1, Misses: 4, Failures: 1, Answers: answers}, st)
	})
}

// A hit allocates little: the answer is unpacked from its stored form.
func TestAllocationsOfAHit(t *testing.T) {
	next := &facts{say: says(dns.Secure, time.Hour, false)}
	c := New(next, Options{Epoch: next.now})
	for _, e := range []dns.Effort{{CacheOnly: true}, {}} {
		q := mxOf("example.com")
		gets(c, q, e)
		gets(c, q)
		require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
			if r, err := c.Lookup(t.Context(), q, e); err != nil || r.Status != dns.Secure {
				t.Error("no hit")
			}
		}), 8.0)
	}
	next.set(fails)
	gets(c, mxOf("failed.example"))
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = c.Lookup(t.Context(), mxOf("failed.example"), dns.Effort{CacheOnly: true}) }), 8.0)
}
