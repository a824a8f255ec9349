package text_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/text"
)

func TestPrintableKeepsNothingThatControlsATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":         "plain text",
		"\x1b[31mred\x7f":    "?[31mred?",
		"line\nbreak\ttab":   "line?break?tab",
		"m\u00fcnchen":       "m?nchen",
		"\u202eevil":         "?evil",
		"not UTF-8 \xff\x9b": "not UTF-8 ??",
	} {
		require.Equal(t, want, text.Printable(in))
	}
	require.Equal(t, "a?b", text.Name("a b"))
	require.Equal(t, "one; tw", text.Line("one\ntwo", 7))
}

func TestVisibleKeepsLettersOfOtherScripts(t *testing.T) {
	for in, want := range map[string]string{
		"key = \"m\u00fcnchen\"\t# note": "key = \"m\u00fcnchen\"\t# note",
		"\x1b]0;title\x07":               "?]0;title?",
		"c1 \u009b31m":                   "c1 ?31m",
		"\u202eevil\u200b":               "?evil?",
		"\xff":                           "?",
	} {
		require.Equal(t, want, text.Visible(in))
	}
}

func TestWrap(t *testing.T) {
	wrap := func(label, s string) string {
		var b strings.Builder
		text.Wrap(&b, label, s)
		return b.String()
	}
	require.Equal(t, "label  one two\n", wrap("label  ", "one  two"))
	require.Equal(t, "label\n", wrap("label  ", ""))
	require.Equal(t, "\n", wrap("", ""))
	long := strings.Repeat("x", 100)
	require.Equal(t, "a "+long+"\n  b\n", wrap("a ", long+" b"), "a word is never split")
	for line := range strings.Lines(wrap("  - ", strings.Repeat("word ", 100))) {
		require.LessOrEqual(t, len(line), text.Columns+1)
		require.Regexp(t, `^(  - |    )word`, line)
		require.NotContains(t, line, " \n")
	}
}

func TestPaint(t *testing.T) {
	require.Equal(t, "\x1b[31mx\x1b[0m", text.Palette(true).Paint(text.Red, "x"))
	require.Equal(t, "x", text.Palette(true).Paint("", "x"))
	require.Equal(t, "x", text.Palette(false).Paint(text.Red, "x"))
}

func TestNearest(t *testing.T) {
	maps := []string{"tls-policy", "tls-policy-tlsrpt", "transport"}
	for word, want := range map[string]string{
		"tls_policy": "tls-policy", "TLS-Policy": "tls-policy", "tlspolicy": "tls-policy", "tls-polciy": "tls-policy",
		"transports": "transport", "tarnsport": "transport", "tls-policy-tlsrp": "tls-policy-tlsrpt",
		"xyz": "", "": "", "relay": "", "t": "", strings.Repeat("transport", 20): "",
	} {
		require.Equal(t, want, text.Nearest(word, maps), word)
	}
	require.Equal(t, "mode", text.Nearest("moed", []string{"mode", "overrides"}))
	require.Empty(t, text.Nearest("ab", []string{"cd"}))
}
