package postfix

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                              nil,
		" , ,\t\n":                      nil,
		"a,b  c":                        {"a", "b", "c"},
		"inline:{ {a=b}, { c = d } },e": {"inline:{ {a=b}, { c = d } }", "e"},
		"pcre:{{/a b/ c}} x":            {"pcre:{{/a b/ c}}", "x"},
		"a{b, c":                        {"a{b, c"},
		"a}b, c":                        {"a}b", "c"},
	} {
		require.Equal(t, want, tokens(text), text)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	keys := func(l list, table string, negate bool) string {
		return strings.Join(l.keys(entry{text: table, table: true, negate: negate}, "a.b.test"), " ")
	}
	relay := list{parents: true, below: true}
	require.Equal(t, "a.b.test .b.test b.test .test test", keys(relay, "hash:/x", false))
	require.Equal(t, "a.b.test", keys(relay, "hash:/x", true), "what takes domains out takes out as few as it can")
	require.Equal(t, "a.b.test", keys(relay, "regexp:/x", false))
	require.Equal(t, "a.b.test", keys(relay, "unionmap:{hash:/y, pcre:/x}", false))
	require.Equal(t, "a.b.test .b.test b.test .test test", keys(relay, "hash:/etc/tcp: pcre:/x", false), "a path is not a type")
	require.Equal(t, "a.b.test", keys(list{}, "hash:/x", false))
	require.Equal(t, "* a.b.test .b.test .test", keys(list{below: true, rest: true}, "hash:/x", false))
	require.Equal(t, "a.b.test .b.test .test", keys(list{below: true}, "hash:/x", false))
}

// FuzzList holds a list to what it must never do: forget an entry that is plainly there, or say no
// although a table failed.
func FuzzList(f *testing.F) {
	for _, text := range []string{"a.example, b.example", "!a.example b.example", "/file !/file", "hash:/x .a.example", "inline:{ {a=b} }", "# a !b", "{,}", "ä.example", "!!a"} {
		f.Add(text, "a.example", true)
	}
	f.Fuzz(func(t *testing.T, text, domain string, parents bool) {
		domain = canonical(domain)
		entries, err := parseEntries(text, func(string) (string, error) { return "in.file, !out.file", nil })
		if err != nil {
			return
		}
		l := list{parameter: "relay_domains", parents: parents, below: true, entries: entries}
		failed := errors.New("failed")
		own, by, err := l.match(domain, func(_ string, keys []string) (string, error) {
			require.Equal(t, domain, keys[0])
			return "", failed
		})
		require.True(t, own || by == "")
		if err == nil && !own {
			for _, e := range entries {
				if e.negate && e.text == domain {
					break
				}
				require.False(t, e.table && !e.negate, "a table that failed was passed over")
				require.False(t, !e.table && !e.negate && e.text == domain, "an entry was passed over")
			}
		}
	})
}
