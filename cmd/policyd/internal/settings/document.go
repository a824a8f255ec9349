package settings

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/policyd/policyd/internal/text"
)

// document is a decoded settings file.
type document struct {
	// values are by full key, such as "server.listen": a bool, an int64, a string, a list or something that no setting
	// takes. An unknown table is one value.
	values map[string]any
	// lines are the numbers of the lines, from 1, where keys are set and tables begin.
	lines  map[string]int
	tables []string // the names of all tables that there are
	// header is the line that begins the table of the next key, and table the name in it. The keys below a broken
	// header belong to no table.
	header, table string
	broken        bool
}

// newDocument decodes a text and returns every mistake in its syntax. It decodes each key and each header by itself, so
// that a mistake does not hide others.
func newDocument(lines []string) (*document, []Problem) {
	d := &document{values: map[string]any{}, lines: map[string]int{}}
	for _, t := range new(Settings).Tables()[1:] {
		d.tables = append(d.tables, t.Name)
	}
	begins := regexp.MustCompile(`^\s*(\[|[A-Za-z_][\w.-]*\s*(=|\s|$)|"[^"]*"\s*=|'[^']*'\s*=)`)
	var problems []Problem
	for first := 0; first < len(lines); {
		end := first + 1
		for end < len(lines) && !begins.MatchString(lines[end]) {
			end++ // a comment, or a value in several lines
		}
		problems = append(problems, d.add(lines[first:end], first+1)...)
		first = end
	}
	all, row, err := unmarshal(lines)
	switch {
	case err == nil: // also if a line of a text in several lines looks like a key
		d.values, problems = d.flat(all), nil
	case len(problems) == 0:
		problems = []Problem{notTOML(row, "", err)}
	}
	return d, problems
}

// add adds the key or the header in lines, the first of which is line n of the file.
func (d *document) add(lines []string, n int) (problems []Problem) {
	first := strings.TrimSpace(lines[0])
	isHeader := strings.HasPrefix(first, "[")
	name, _, isKey := strings.Cut(first, "=")
	name = join(d.table, strings.TrimSpace(name))
	if isHeader {
		name, _, _ = strings.Cut(strings.TrimLeft(first, "["), "]")
		name, isKey = strings.TrimSpace(name), false
		d.header, d.table, d.broken = "", name, false
	}
	if d.broken {
		return nil
	}
	all, row, err := unmarshal(slices.Concat([]string{d.header}, lines))
	if err != nil {
		d.broken = isHeader
		if !isKey {
			name = ""
		} else if d.lines[name] == 0 {
			d.lines[name] = n
		}
		return []Problem{notTOML(n+max(row-2, 0), name, err)}
	}
	already := func(name, format string) {
		problems = append(problems, Problem{Line: n, Text: fmt.Sprintf(format, text.Visible(name), d.lines[name])})
	}
	values := d.flat(all)
	if isHeader {
		d.header = first
		if d.lines[name] > 0 {
			already(name, "[%s] is already open in line %d: put the key there")
			return problems
		}
		d.lines[name] = n
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if d.lines[key] > 0 && key != d.table {
			already(key, "%s: already set in line %d: keep one of them")
			continue
		}
		d.values[key] = values[key]
		table, _, _ := strings.Cut(key, ".")
		for _, name := range []string{key, table} {
			if d.lines[name] == 0 {
				d.lines[name] = n
			}
		}
	}
	return problems
}

func notTOML(line int, key string, err error) Problem {
	return Problem{Line: line, Text: strings.TrimPrefix(text.Visible(key)+": ", ": ") + "this is not TOML: " +
		text.Visible(strings.TrimPrefix(err.Error(), "toml: ")) +
		`: write key = value, with text in quotes, as in mode = "enforce"`}
}

// unmarshal returns what is in lines, and the number of the line with the first mistake.
func unmarshal(lines []string) (all map[string]any, row int, err error) {
	err = toml.Unmarshal([]byte(strings.Join(lines, "\n")), &all)
	if wrong, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ = wrong.Position()
	}
	return all, min(max(row, 1), len(lines)), err
}

// flat returns the values by full key.
func (d *document) flat(all map[string]any) map[string]any {
	values := map[string]any{}
	for name, v := range all {
		below, ok := v.(map[string]any)
		if !ok || !slices.Contains(d.tables, name) {
			values[name] = v
			continue
		}
		for key, v := range below {
			values[join(name, key)] = v
		}
	}
	return values
}

func join(table, key string) string { return strings.TrimPrefix(table+"."+key, ".") }

// line returns the number of the line where a key is set, or else its table; 1 if neither is there.
func (d *document) line(full string) int {
	table, _, _ := strings.Cut(full, ".")
	return cmp.Or(d.lines[full], d.lines[table], 1)
}
