package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/regfile"
	"github.com/policyd/policyd/internal/roots"
	"github.com/policyd/policyd/internal/text"
)

// Error has all mistakes in the settings and in the files that they name, one per line of its text:
// "file:line: setting: what is wrong: what to write".
type Error struct{ Problems []Problem }

// Problem is one mistake. Its JSON form is stable.
type Problem struct {
	File string `json:"file"`
	// Line counts from 1; 0 if the mistake is not in a line.
	Line int    `json:"line"`
	Text string `json:"text"`
}

// Error returns one line per problem.
func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// String returns the problem in one line.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Load reads and checks the settings file at path and the files that it names; "" means DefaultPath, which
// does not have to exist. The error is an *Error with every mistake. The settings are returned even then: those with a
// mistake have their default, for commands that only need to find the running daemon.
func Load(path string) (*Loaded, error) {
	l := &Loaded{Settings: Default(), Path: cmp.Or(path, DefaultPath)}
	document, err := regfile.Read(l.Path)
	l.Found = !errors.Is(err, fs.ErrNotExist)
	if !l.Found && path == "" {
		err = nil
	}
	return l.check(document, err)
}

// Read is Load for a text that is not in a file, such as standard input. name stands for the file in messages.
func Read(name string, r io.Reader) (*Loaded, error) {
	l := &Loaded{Settings: Default(), Path: name, Found: true}
	document, err := io.ReadAll(r)
	return l.check(document, err)
}

// check decodes and checks a document, unless it could not be read, and the files that it names.
func (l *Loaded) check(document []byte, err error) (*Loaded, error) {
	if err != nil {
		l.Mistakes = []Problem{{File: l.Path, Text: "the settings cannot be read: " + cause(err)}}
		return l, &Error{l.Mistakes}
	}
	l.decode(string(bytes.TrimPrefix(document, []byte("\ufeff")))) // some editors write it
	add := func(key, what string) { l.Mistakes = append(l.Mistakes, l.Mistake(key, what).Problems...) }
	l.Roots, err = roots.Load(l.TLS.CAFile)
	if err != nil {
		add("tls.ca_file", l.TLS.CAFile+" cannot be read: "+cause(err)+
			": write the path of a PEM file, or leave the setting out for the system's roots")
	}
	l.readFleetKeys(add)
	rules, err := regfile.Read(l.Overrides)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || l.Overrides != defaultOverrides) {
		add("overrides", l.Overrides+" cannot be read: "+cause(err)+": create the file or leave the setting out")
	}
	slices.SortStableFunc(l.Mistakes, func(a, b Problem) int { return a.Line - b.Line })
	if err == nil {
		l.Rules = policy.ParseOverrides(rules, func(line int, what string) {
			l.Mistakes = append(l.Mistakes, Problem{l.Overrides, line, text.Visible(what)})
		})
	}
	if len(l.Mistakes) > 0 {
		return l, &Error{l.Mistakes}
	}
	l.Warnings = l.warnings()
	return l, nil
}

// KeepUntilRestart copies from old what only a restart can change, and returns the keys of values that differed.
func (l *Loaded) KeepUntilRestart(old *Loaded) (kept []string) {
	before := old.rows()
	for i, r := range l.rows() {
		if r.restart && !reflect.DeepEqual(r.value.Interface(), before[i].value.Interface()) {
			r.value.Set(before[i].value)
			kept = append(kept, r.path)
		}
	}
	return kept
}

// Mistake returns the error for a mistake in a setting, in the line where its key is set, or else its table.
func (l *Loaded) Mistake(key, text string) *Error {
	table, _, _ := strings.Cut(key, ".")
	return &Error{[]Problem{{l.Path, cmp.Or(l.lines[key], l.lines[table]), key + ": " + text}}}
}

// cause is an error about a file, without the path, which the message already names.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}
