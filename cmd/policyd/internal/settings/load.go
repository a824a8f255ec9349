package settings

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/regfile"
	"github.com/policyd/policyd/internal/text"
)

// Load reads and checks the settings file at path and the files that it names; "" means DefaultPath, which
// does not have to exist. The error is an *Error.
func Load(path string) (*Loaded, error) {
	l := &Loaded{Path: path, Settings: Default()}
	if path == "" {
		l.Path = DefaultPath
	}
	document, err := regfile.Read(l.Path)
	if err != nil && (path != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, &Error{[]Problem{{File: l.Path, Text: "the settings cannot be read: " + cause(err)}}}
	}
	l.Found, l.document = err == nil, document
	if problems := l.read(document); len(problems) > 0 {
		for i := range problems {
			if problems[i].File == "" {
				problems[i].File = l.Path
			}
		}
		return nil, &Error{problems}
	}
	l.Warnings = l.warnings()
	return l, nil
}

// Mistake returns the error for a mistake at a key that shows only where the setting is used.
func (l *Loaded) Mistake(key, text string) *Error {
	p := locate(l.document).problem(l.document, key, text)
	p.File = l.Path
	return &Error{[]Problem{p}}
}

// cause is an error of a file without the path, which the reader has seen.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// read decodes and checks a document.
func (l *Loaded) read(document []byte) []Problem {
	d := toml.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&l.Settings); err != nil {
		return decodeProblems(document, err)
	}
	where := locate(document)
	if problems := misspelt(document, where); len(problems) > 0 {
		return problems
	}
	var problems []Problem
	for _, s := range sections() {
		for _, r := range s.rows {
			if r.check == nil {
				continue
			}
			if err := r.check(&l.Settings); err != nil {
				problems = append(problems, where.problem(document, s.path(r)+element(err), r.key+": "+err.Error()))
			}
		}
	}
	if len(problems) > 0 {
		return inOrder(problems)
	}
	return l.readFiles(document, where)
}

// misspelt are the keys that the decoder takes for others because it does not tell upper case from lower.
func misspelt(document []byte, where spans) (problems []Problem) {
	known := map[string]bool{}
	for _, s := range sections() {
		known[s.name] = true
		for _, r := range s.rows {
			known[s.path(r)] = true
		}
	}
	for key := range where {
		name, _, _ := strings.Cut(key, "[")
		if !known[name] {
			problems = append(problems, where.problem(document, key, "unknown key "+text.Visible(name)+": write it in lower case"))
		}
	}
	return inOrder(problems)
}

// inOrder sorts problems by their place.
func inOrder(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	return problems
}

// element returns "[2]" for an error of the third element of a list.
func element(err error) string {
	if e, ok := errors.AsType[*elementError](err); ok {
		return "[" + strconv.Itoa(e.index) + "]"
	}
	return ""
}

// readFiles reads the files that the settings name.
func (l *Loaded) readFiles(document []byte, where spans) (problems []Problem) {
	if l.TLS.CAFile != "" {
		pem, err := regfile.Read(l.TLS.CAFile)
		l.Roots = x509.NewCertPool()
		switch {
		case err != nil:
			problems = append(problems, where.problem(document, "tls.ca_file", "ca_file: "+l.TLS.CAFile+" cannot be read: "+cause(err)+": write the path of a PEM file, or leave it out for the system's roots"))
		case !l.Roots.AppendCertsFromPEM(pem):
			problems = append(problems, where.problem(document, "tls.ca_file", "ca_file: there is no certificate in "+l.TLS.CAFile+": write the path of a PEM file with root certificates"))
		}
	}
	rules, err := regfile.Read(l.Overrides)
	_, named := where["overrides"]
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
	case err != nil:
		problems = append(problems, where.problem(document, "overrides", "overrides: "+l.Overrides+" cannot be read: "+cause(err)+": make the file or leave the setting out"))
	default:
		if l.Rules, err = policy.ParseOverrides(l.Overrides, bytes.NewReader(rules)); err != nil {
			problems = append(problems, overridesProblem(l.Overrides, rules, err))
		}
	}
	return problems
}

// overridesProblem adds the line to an error that names it: "file:line: what is wrong".
func overridesProblem(path string, document []byte, err error) Problem {
	text := strings.TrimPrefix(err.Error(), path+":")
	number, rest, ok := strings.Cut(text, ": ")
	line, bad := strconv.Atoi(number)
	if !ok || bad != nil {
		return Problem{File: path, Text: text}
	}
	source := lineOf(document, line)
	content := strings.TrimLeft(source, " \t")
	return Problem{File: path, Line: line, Column: len(source) - len(content) + 1, Width: len(strings.TrimRight(content, " \t")), Source: source, Text: rest}
}

// decodeProblems are the problems that the decoder found.
func decodeProblems(document []byte, err error) []Problem {
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var problems []Problem
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			text := unknownKey(e.Key())
			if strings.HasSuffix(e.Error(), "missing table") {
				text = unknownTable(e.Key())
			}
			problems = append(problems, decodeProblem(document, e, text))
		}
		return problems
	}
	wrong, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return []Problem{{Text: err.Error()}}
	}
	message := strings.TrimPrefix(wrong.Error(), "toml: ")
	text := "this is not TOML: " + message + `: write key = value, with text in quotes, as in mode = "enforce"`
	for _, e := range Reference() {
		if e.Key == strings.Join(wrong.Key(), ".") {
			name := wrong.Key()[len(wrong.Key())-1]
			text = fmt.Sprintf("%s: %s: write %s, as in %s = %s", name, mismatch(message), e.Type, name, e.Default)
		}
	}
	found := decodeProblem(document, wrong, text)
	// The decoder has no place for a list within a list and says the first line: the key is what it is about.
	if key := locate(document).problem(document, strings.Join(wrong.Key(), "."), text); key.Line > found.Line {
		found = key
	}
	return []Problem{found}
}

// mismatch says of a message of the decoder that a value has the wrong type, without the names of our own types.
func mismatch(text string) string {
	kind, ok := strings.CutPrefix(text, "cannot decode TOML ")
	kind, _, into := strings.Cut(kind, " into ")
	if !ok || !into {
		return text
	}
	return "this takes no " + kind
}

// decodeProblem places a problem where the decoder did.
func decodeProblem(document []byte, e *toml.DecodeError, text string) Problem {
	line, column := e.Position()
	p := Problem{Line: line, Column: column, Source: lineOf(document, line), Text: text}
	if column <= len(p.Source) {
		p.Width = token(p.Source[column-1:])
	}
	return p
}

// token returns the length of the key or value that a line begins with.
func token(s string) int {
	if s[0] == '"' || s[0] == '\'' {
		if i := strings.IndexByte(s[1:], s[0]); i >= 0 {
			return i + 2
		}
		return len(s)
	}
	if i := strings.IndexAny(s, " \t=,]#"); i > 0 {
		return i
	}
	return len(s)
}

// unknownKey says what to write in place of a key that does not exist.
func unknownKey(key []string) string {
	name := key[len(key)-1]
	table := strings.Join(key[:len(key)-1], ".")
	var here []string
	for _, s := range sections() {
		for _, r := range s.rows {
			if s.name == table {
				here = append(here, r.key)
			}
			if r.key == name && s.name != table && (table == "" || len(key) == 2) {
				return fmt.Sprintf("unknown key %s: %s", text.Visible(strings.Join(key, ".")), belongs(s.name))
			}
		}
	}
	at := "[" + table + "]"
	switch {
	case len(here) == 0:
		return unknownTable(key[:len(key)-1])
	case table == "":
		at = "the top of the file"
	}
	return fmt.Sprintf("unknown key %s: write one of those of %s: %s", text.Visible(strings.Join(key, ".")), at, strings.Join(here, ", "))
}

func unknownTable(key []string) string {
	var tables []string
	for _, s := range sections()[1:] {
		tables = append(tables, "["+s.name+"]")
	}
	return fmt.Sprintf("unknown table [%s]: the tables are %s", text.Visible(strings.Join(key, ".")), strings.Join(tables, ", "))
}

func belongs(table string) string {
	if table == "" {
		return "write it at the top of the file, before the first table"
	}
	return "write it under [" + table + "]"
}
