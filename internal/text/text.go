// Package text makes text fit for a terminal or a log line: it replaces characters that could control a
// terminal, wraps long lines, and adds colour.
package text

import (
	"strings"
	"unicode"
)

// Columns is the width of wrapped text.
const Columns = 80

// Printable returns s with "?" in place of every character outside printable ASCII. The result is safe in a log
// line, in a reply to Postfix and on a terminal, whatever s contains.
func Printable(s string) string { return replace(s, ' ') }

// Name is Printable for a name from the DNS: a space becomes "?" too, so that a name stays one word.
func Name(s string) string { return replace(s, '!') }

// Line is Printable for text that may be long or have several lines: it returns at most limit bytes, and line
// breaks become "; ".
func Line(s string, limit int) string {
	s = Printable(strings.ReplaceAll(s, "\n", "; "))
	return s[:min(len(s), limit)]
}

// Visible returns s with "?" in place of every character that has no visible form, except tabs and spaces. It keeps
// letters outside ASCII, for text that the operator wrote, such as a line of a settings file.
func Visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r != unicode.ReplacementChar && unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

func replace(s string, lowest rune) string {
	return strings.Map(func(r rune) rune {
		if r < lowest || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Wrap appends text to b in lines of at most Columns bytes. The first line follows label; the others are indented to
// its width. A word that is longer than a line is not split.
func Wrap(b *strings.Builder, label, text string) {
	width, empty := len(label), true
	b.WriteString(strings.TrimRight(label, " "))
	pending := label[len(strings.TrimRight(label, " ")):]
	for word := range strings.FieldsSeq(text) {
		if !empty && width+1+len(word) > Columns {
			b.WriteByte('\n')
			pending, width, empty = strings.Repeat(" ", len(label)), len(label), true
		}
		if !empty {
			pending = " "
			width++
		}
		b.WriteString(pending + word)
		width, empty = width+len(word), false
	}
	b.WriteByte('\n')
}
