package resolver

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// names lists names and types in a line.
func names(list []CacheEntry) string {
	text := ""
	for _, e := range list {
		text += e.Name + "/" + e.Type.String() + " "
	}
	return text
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(Secure, time.Hour, false)}
		c := NewCache(next, CacheOptions{})
		stored := time.Now()
		gets(c, mxOf("example.com"))
		gets(c, Question{Name: "_25._tcp.mx.Example.com", Type: TypeTLSA})
		gets(c, Question{Name: "mx.example.com", Type: TypeA})
		gets(c, mxOf("notexample.com"))
		next.set(says(Secure, time.Hour, true))
		gets(c, Question{Name: "example.com", Type: TypeTXT})
		next.set(func(Question) (*RRset, error) {
			return &RRset{Status: Insecure, Expires: time.Now().Add(time.Hour)}, nil
		})
		gets(c, mxOf("nodata.example"))
		next.set(fails)
		gets(c, mxOf("failed.example"))
		next.set(says(Insecure, time.Second, false))
		gets(c, mxOf("short.example"))
		time.Sleep(time.Second)

		require.Equal(t, "_25._tcp.mx.example.com/TLSA example.com/MX example.com/TXT failed.example/MX mx.example.com/A nodata.example/MX notexample.com/MX ",
			names(c.List("", 0)), "by name and type, without what is of no use any more")
		for match, want := range map[string]string{
			"mx.":              "_25._tcp.mx.example.com/TLSA mx.example.com/A ",
			"EXAMPLE.com.":     "_25._tcp.mx.example.com/TLSA example.com/MX example.com/TXT mx.example.com/A notexample.com/MX ",
			"*.example.com":    "_25._tcp.mx.example.com/TLSA mx.example.com/A ",
			"[a-f]*.example":   "failed.example/MX ",
			"not?xample.com":   "notexample.com/MX ",
			"[":                "",
			"none.example":     "",
			"_25._tcp.mx.exam": "_25._tcp.mx.example.com/TLSA ",
		} {
			require.Equal(t, want, names(c.List(match, 0)), match)
		}
		require.Equal(t, "_25._tcp.mx.example.com/TLSA example.com/MX ", names(c.List("", 2)))
		require.NotNil(t, c.List("none.example", 0), "[] and not null in JSON")

		require.Equal(t, "_25._tcp.mx.example.com/TLSA example.com/MX example.com/TXT mx.example.com/A ", names(c.Get("Example.com.")))
		require.Empty(t, c.Get("com.example"))
		require.Equal(t, []CacheEntry{{Name: "failed.example", Type: TypeMX, Failure: "SERVFAIL", Retry: stored.Add(time.Second)}}, c.Get("failed.example"))
		require.Equal(t, []CacheEntry{{Name: "nodata.example", Type: TypeMX, Status: Insecure, Stored: stored, Expires: stored.Add(time.Hour), Denial: "NODATA"}}, c.Get("nodata.example"))
		list := c.Get("example.com")
		require.Equal(t, CacheEntry{Name: "example.com", Type: TypeMX, Status: Secure, Stored: stored, Expires: stored.Add(time.Hour), Data: []string{"10 mx.example.com"}}, list[1])
		require.Equal(t, []string{"3 1 1 abcd"}, list[0].Data)
		require.Equal(t, "NXDOMAIN", list[2].Denial)

		// A live answer and a failure beside it.
		next.set(fails)
		c.refresh(t.Context(), mxOf("example.com"))
		e := c.Get("example.com")[1]
		require.Equal(t, Secure, e.Status)
		require.Equal(t, "SERVFAIL", e.Failure)
		require.Equal(t, []string{"10 mx.example.com"}, e.Data)
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(Secure, time.Hour, false)}
		c := NewCache(next, CacheOptions{})
		fill := func() {
			next.set(says(Secure, time.Hour, false))
			for _, name := range []string{"example.com", "a.example.com", "b.a.example.com", "notexample.com", `odd\.example.com`, "com", "example.org"} {
				gets(c, mxOf(name))
			}
			next.set(fails)
			gets(c, mxOf("failed.example.com"))
		}
		fill()
		require.Zero(t, c.Flush("none.example"))
		require.Zero(t, c.Flush(""))
		require.Zero(t, c.Flush("."))
		require.Equal(t, 4, c.Flush("EXAMPLE.com."), "the domain and all names below it, and no others")
		require.Equal(t, `com/MX example.org/MX notexample.com/MX odd\.example.com/MX `, names(c.List("", 0)))
		n := next.queries()
		next.set(says(Insecure, time.Hour, false))
		require.Equal(t, "insecure", gets(c, mxOf("failed.example.com")), "failures too")
		require.Equal(t, "insecure", gets(c, mxOf("example.com")))
		require.Equal(t, n+2, next.queries())
		c.sound(t)
		fill()
		require.Equal(t, 8, c.FlushAll())
		require.Empty(t, c.List("", 0))
		c.sound(t)
	})
}

func TestPresentation(t *testing.T) {
	for want, r := range map[string]RRset{
		"[]":                             {},
		"[0 .]":                          {MX: []MX{{0, ""}}},
		"[5 a.example 10 b.example]":     {MX: []MX{{5, "a.example"}, {10, "b.example"}}},
		"[192.0.2.1 2001:db8::1]":        {Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}},
		"[2 0 1 00ff 3 1 0 ]":            {TLSA: []TLSA{{2, 0, 1, []byte{0, 255}}, {3, 1, 0, nil}}},
		`["v=STSv1; id=1" "\x00\xff\""]`: {TXT: []string{"v=STSv1; id=1", "\x00\xff\""}},
		"[ns.example]":                   {Type: TypeNS, TXT: []string{"ns.example"}},
	} {
		require.Equal(t, want, fmt.Sprint(r.presentation()))
	}
}

// Every answer of the resolver is counted once, however often it is given.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &facts{say: says(Secure, time.Hour, false)}
		c := NewCache(next, CacheOptions{})
		gets(c, mxOf("a.example"))
		gets(c, mxOf("a.example"))
		next.set(says(Insecure, time.Hour, false))
		gets(c, mxOf("b.example"))
		gets(c.Cached(), mxOf("c.example"))
		next.set(fails)
		gets(c, mxOf("d.example"))
		gets(c, mxOf("d.example"))
		next.set(func(q Question) (*RRset, error) {
			return nil, &Error{Question: q, Reason: "SERVFAIL (DNSSEC Bogus)", Bogus: true}
		})
		gets(c, mxOf("e.example"))
		st := c.Stats()
		require.Positive(t, st.Bytes)
		st.Bytes = 0
		require.Equal(t, CacheStats{Entries: 4, MaxBytes: MaxBytes(400_000), Hits: 1, Misses: 4, Failures: 1, Secure: 1, Insecure: 1, Bogus: 1, Failed: 1}, st)
	})
}

// A hit costs nothing on the heap.
func TestHitAllocatesNothing(t *testing.T) {
	next := &facts{say: says(Secure, time.Hour, false)}
	s, err := NewStub(StubOptions{Servers: []string{"127.0.0.1"}})
	require.NoError(t, err)
	c := NewCache(next, CacheOptions{Generation: s.Generation})
	for _, resolver := range []Resolver{c.Cached(), c} {
		q := mxOf("example.com")
		gets(resolver, q)
		gets(c, q)
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			if r, err := resolver.Lookup(t.Context(), q); err != nil || r.Status != Secure {
				t.Error("no hit")
			}
		}))
	}
	next.set(fails)
	gets(c, mxOf("failed.example"))
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = c.Cached().Lookup(t.Context(), mxOf("failed.example")) }))
}
