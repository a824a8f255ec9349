package settings

import (
	"slices"
	"strings"
)

// document is the text of a settings file with its statements, for messages that name a line.
type document struct {
	lines      []string
	statements []statement
}

// statement is the header of a table, or a key with its value.
type statement struct {
	// key is the full key, such as "server.listen".
	key    string
	header bool
	// first and last are line numbers, counted from 0.
	first, last int
}

// newDocument splits a text into statements. It accepts any text: what is not TOML is found by the decoder.
func newDocument(text []byte) *document {
	d := &document{lines: strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")}
	table := ""
	for i := 0; i < len(d.lines); i++ {
		line := strings.TrimSpace(d.lines[i])
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			name, _, _ := strings.Cut(strings.TrimLeft(line, "["), "]")
			table = key(name)
			d.statements = append(d.statements, statement{table, true, i, i})
		default:
			name, value := cutValue(line)
			last := d.end(i, value)
			d.statements = append(d.statements, statement{join(table, key(name)), false, i, last})
			i = last
		}
	}
	return d
}

// key returns a key without spaces and quotes.
func key(text string) string {
	parts := strings.Split(text, ".")
	for i, p := range parts {
		parts[i] = strings.Trim(p, " \t\"'")
	}
	return strings.Join(parts, ".")
}

func join(table, key string) string { return strings.TrimPrefix(table+"."+key, ".") }

// cutValue splits a line at the first "=" outside quotes.
func cutValue(line string) (name, value string) {
	quote := byte(0)
	for i := range len(line) {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '=':
			return line[:i], line[i+1:]
		}
	}
	return line, ""
}

// end returns the last line of a value that begins in line i: an array and a string in triple quotes continue.
func (d *document) end(i int, value string) int {
	depth, triple := 0, ""
	for {
		depth, triple = scan(value, depth, triple)
		if depth <= 0 && triple == "" || i+1 == len(d.lines) {
			return i
		}
		i++
		value = d.lines[i]
	}
}

// scan reads one line of a value. depth counts open brackets; triple is the delimiter of an open string in triple
// quotes.
func scan(line string, depth int, triple string) (int, string) {
	for line != "" {
		if triple != "" {
			_, rest, closed := strings.Cut(line, triple)
			if !closed {
				return depth, triple
			}
			line, triple = rest, ""
			continue
		}
		switch c := line[0]; c {
		case '#':
			return depth, ""
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '"', '\'':
			if t := strings.Repeat(string(c), 3); strings.HasPrefix(line, t) {
				line, triple = line[3:], t
				continue
			}
			line = afterString(line[1:], c)
			continue
		}
		line = line[1:]
	}
	return depth, triple
}

// afterString returns the rest of a line after a string in simple quotes, which ends with its line at the latest.
func afterString(rest string, quote byte) string {
	for i := 0; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && quote == '"':
			i++
		case rest[i] == quote:
			return rest[i+1:]
		}
	}
	return ""
}

// line returns the number of the line, from 1, where a key is set or its table begins. A key within an inline table
// is in the line of that table.
func (d *document) line(full string) int {
	for full != "" {
		if i := slices.IndexFunc(d.statements, func(s statement) bool { return s.key == full }); i >= 0 {
			return d.statements[i].first + 1
		}
		full = full[:max(strings.LastIndexByte(full, '.'), 0)]
	}
	return 1
}

// without returns the document with some lines empty, so that the numbers of the others stay the same.
func (d *document) without(empty func(line int) bool) *document {
	lines := slices.Clone(d.lines)
	for i := range lines {
		if empty(i) {
			lines[i] = ""
		}
	}
	return newDocument([]byte(strings.Join(lines, "\n")))
}

// section returns the lines of statement i: of a header also those of the keys below it.
func (d *document) section(i int) (first, last int) {
	s := d.statements[i]
	first, last = s.first, s.last
	if s.header {
		last = len(d.lines) - 1
		for _, next := range d.statements[i+1:] {
			if next.header {
				return first, next.first - 1
			}
		}
	}
	return first, last
}
