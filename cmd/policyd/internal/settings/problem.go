package settings

import (
	"fmt"
	"strings"
)

// Error is every mistake in the settings and in the files that they name, one per line of its text:
// "file:line: setting: what is wrong: what to write".
type Error struct {
	// Path is the settings file, and Found whether it exists.
	Path     string
	Found    bool
	Problems []Problem
}

// Problem is one mistake. Its JSON form is stable.
type Problem struct {
	File string `json:"file"`
	// Line counts from 1; 0 if the problem concerns the whole file.
	Line int `json:"line"`
	// Text describes the mistake and what to write instead.
	Text string `json:"text"`
}

// Error returns one line per problem.
func (e *Error) Error() string {
	var texts []string
	for _, p := range e.Problems {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, "\n")
}

// Summary returns the problems in one line, for a log.
func (e *Error) Summary() string { return strings.ReplaceAll(e.Error(), "\n", "; ") }

// String returns the problem in one line.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}
