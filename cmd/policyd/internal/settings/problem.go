package settings

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// Error is everything that is wrong with the settings and the files they name. Its text is for people:
// for each problem "file:line: what is wrong: what to write", the line, and a caret under the place.
type Error struct {
	Problems []Problem
}

// Problem is one mistake.
type Problem struct {
	File string
	// Line and Column count from 1; 0 where the problem is of the whole file.
	Line, Column int
	// Width is how many bytes of the line are wrong.
	Width int
	// Source is the line.
	Source string
	// Text says what is wrong and what to write.
	Text string
}

// Error returns the problems, with their lines.
func (e *Error) Error() string {
	var texts []string
	for _, p := range e.Problems {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, "\n")
}

// Summary returns the problems in one line, for a log.
func (e *Error) Summary() string {
	var texts []string
	for _, p := range e.Problems {
		texts = append(texts, p.place()+p.Text)
	}
	return strings.Join(texts, "; ")
}

func (p Problem) place() string {
	if p.Line == 0 {
		return p.File + ": "
	}
	return fmt.Sprintf("%s:%d: ", p.File, p.Line)
}

// String returns the problem in three lines, or one where there is no line to show.
func (p Problem) String() string {
	first := p.place() + p.Text
	if p.Line == 0 {
		return first
	}
	column := min(max(p.Column, 1), len(p.Source)+1)
	width := min(max(p.Width, 1), max(len(p.Source)-column+1, 1))
	// What stands before the caret keeps its tabs, so that the caret is under its place.
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, p.Source[:column-1])
	number := fmt.Sprintf("%5d", p.Line)
	return fmt.Sprintf("%s\n%s | %s\n%s | %s^%s", first, number, text.Visible(p.Source),
		strings.Repeat(" ", len(number)), indent, strings.Repeat("~", width-1))
}

// lineOf returns a line of a document by its number, without its end.
func lineOf(document []byte, number int) string {
	n := 0
	for line := range strings.Lines(string(document)) {
		if n++; n == number {
			return strings.TrimRight(line, "\r\n")
		}
	}
	return ""
}
