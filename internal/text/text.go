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
func Printable(s string) string { return keep(s, func(r rune) bool { return r >= ' ' && r <= '~' }) }

// Name is Printable for a name from the DNS: a space becomes "?" too, so that a name stays one word.
func Name(s string) string { return strings.ReplaceAll(Printable(s), " ", "?") }

// Line is Printable for text that may be long or have several lines: it returns at most limit bytes, and line
// breaks become "; ".
func Line(s string, limit int) string {
	s = Printable(strings.ReplaceAll(s, "\n", "; "))
	return s[:min(len(s), limit)]
}

// Visible returns s with "?" in place of every character that has no visible form, except tabs and spaces. It keeps
// letters outside ASCII, for text that the operator wrote, such as a line of a settings file.
func Visible(s string) string {
	return keep(s, func(r rune) bool { return r == '\t' || r != unicode.ReplacementChar && unicode.IsPrint(r) })
}

// keep returns s with "?" in place of every character for which fits returns false.
func keep(s string, fits func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if fits(r) {
			return r
		}
		return '?'
	}, s)
}

// Wrap appends text to b in lines of at most Columns bytes. The first line follows label; the others are indented to
// its width. A word that is longer than a line is not split.
func Wrap(b *strings.Builder, label, text string) {
	line := label
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == label: // the first word
			line += word
		case len(line)+1+len(word) > Columns:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", len(label)) + word
		default:
			line += " " + word
		}
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// Style is a code of ECMA-48, section 8.3.117. The zero value changes nothing.
type Style string

// The styles that commands use.
const (
	Bold   Style = "1"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Cyan   Style = "36"
)

// Palette reports whether text is coloured. The zero value leaves text as it is.
type Palette bool

// Paint returns s in a style, if the palette has colours.
func (p Palette) Paint(style Style, s string) string {
	if !bool(p) || style == "" {
		return s
	}
	return "\x1b[" + string(style) + "m" + s + "\x1b[0m"
}

// Either returns yes if the condition holds, and otherwise no.
func Either[T any](holds bool, yes, no T) T {
	if holds {
		return yes
	}
	return no
}
