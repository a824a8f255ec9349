package postfix

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                              {},
		" , ,\t\n":                      {},
		"a,b  c":                        {"a", "b", "c"},
		"inline:{ {a=b}, { c = d } },e": {"inline:{ {a=b}, { c = d } }", "e"},
		"pcre:{{/a b/ c}} x":            {"pcre:{{/a b/ c}}", "x"},
		"a{b, c":                        {"a{b, c"},
		"a}b, c":                        {"a}b", "c"},
	} {
		require.Equal(t, want, Tokens(text), text)
	}
}

func TestInlineEntries(t *testing.T) {
	t.Parallel()
	entries, ok := InlineEntries("regexp:{ {/a, b/ :}, {/c/ :} }")
	require.True(t, ok)
	require.Equal(t, []string{"{/a, b/ :}", "{/c/ :}"}, entries)
	for _, table := range []string{"regexp:/etc/postfix/own", "pcre:{{/a/ :}}", ""} {
		_, ok := InlineEntries(table)
		require.False(t, ok, table)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	keys := func(l matchList, table string) string { return strings.Join(l.keys(table, "a.b.test"), " ") }
	relay := matchList{parents: true, below: true}
	require.Equal(t, "a.b.test .b.test b.test .test test", keys(relay, "hash:/x"))
	require.Equal(t, "a.b.test", keys(relay, "regexp:/x"))
	require.Equal(t, "a.b.test", keys(relay, "proxy:pcre:/x"))
	require.Equal(t, "a.b.test .b.test b.test .test test", keys(relay, "hash:/etc/tcp: pcre:/x"), "a path is not a type")
	require.Equal(t, "a.b.test", keys(matchList{}, "hash:/x"))
	require.Equal(t, "* a.b.test .b.test .test", keys(matchList{below: true, wildcard: true}, "hash:/x"))
	require.Equal(t, "a.b.test .b.test .test", keys(matchList{below: true}, "hash:/x"))
}

func TestATableThatAsksPolicyd(t *testing.T) {
	t.Parallel()
	for table, want := range map[string]bool{
		"socketmap:inet:127.0.0.1:2526:transport": true, "socketmap:unix:policyd/sock:TLS-Policy": true, "socketmap:inet:127.0.0.1:2526:relays": false,
		"hash:/etc/postfix/transport": false, "unionmap:{hash:/x,socketmap:inet:127.0.0.1:2526:transport}": true,
	} {
		require.Equal(t, want, asksPolicyd(table), table)
	}
}

// FuzzList checks that a list never misses an entry that it has.
func FuzzList(f *testing.F) {
	for _, text := range []string{"a.example, b.example", "!a.example b.example", "/file !/file", "hash:/x .a.example", "inline:{ {a=b} }", "# a !b", "{,}", "ä.example", "!!a"} {
		f.Add(text, "a.example", true)
	}
	f.Fuzz(func(t *testing.T, text, domain string, parents bool) {
		l := matchList{parameter: "relay_domains", parents: parents, below: true}
		if l.add(text, 0, func(string) (string, error) { return "in.file, !out.file", nil }) != nil || canonical(domain) == "" {
			return
		}
		domain = canonical(domain)
		require.Equal(t, domain, l.keys("hash:/x", domain)[0])
		for _, token := range Tokens(text) {
			if token[0] != '!' && token[0] != '/' && canonical(token) == domain && !strings.Contains(token, ":") {
				require.NotEmpty(t, l.name(domain), "an entry was passed over")
			}
		}
	})
}
