package settings

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
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
	lines map[string]int
}

// newDocument decodes a text and returns every mistake in its syntax. A line that is not TOML is left out, so that the
// others are checked too. After a header that is not TOML, or an unfinished value, the rest is not checked.
func newDocument(lines []string) (*document, []Problem) {
	all, err := unmarshal(lines)
	if err == nil {
		return &document{flat(all), keyLines(lines, all)}, nil
	}
	at := 1
	if wrong, ok := errors.AsType[*toml.DecodeError](err); ok {
		at, _ = wrong.Position()
	}
	at = min(at, len(lines))
	line := lines[at-1]
	above, below := lines[:at-1], lines[at:]
	name, isHeader := header(line)
	if !isHeader {
		name = keyAt(lines, at)
	}
	previous, _ := unmarshal(above)
	first := keyLines(above, previous)[name] // 0 for none
	problem := Problem{Line: at}
	switch {
	case first > 0 && isHeader && strings.HasSuffix(err.Error(), " already exists"):
		problem.Text = fmt.Sprintf("[%s] is already open in line %d: put the key there", text.Visible(name), first)
		d, problems := newDocument(above)
		rest, more := newDocument(slices.Concat(make([]string, at-1), lines[at-1:])) // as if it were not repeated
		maps.Copy(rest.values, d.values)
		maps.Copy(rest.lines, d.lines)
		return rest, slices.Concat([]Problem{problem}, problems, more)
	case first > 0 && strings.HasSuffix(err.Error(), " already defined"):
		problem.Text = fmt.Sprintf("%s: already set in line %d: keep one of them", text.Visible(name), first)
		end := at // of a value in several lines
		for ; end < len(lines); end++ {
			if _, err := unmarshal(lines[at-1 : end]); err == nil {
				break
			}
		}
		above, below = slices.Concat(above, make([]string, end-at)), lines[end:]
	default:
		problem.Text = "this is not TOML: " + strings.TrimPrefix(err.Error(), "toml: ") +
			`: write key = value, with text in quotes, as in mode = "enforce"`
		if !isHeader && strings.Contains(line, "=") {
			problem.Text = text.Visible(name) + ": " + problem.Text
		}
		if isHeader || strings.TrimSpace(line) == "" {
			below = nil
			for _, err := unmarshal(above); err != nil; _, err = unmarshal(above) {
				above = above[:len(above)-1]
			}
		}
	}
	d, problems := newDocument(slices.Concat(above, []string{""}, below))
	return d, slices.Concat([]Problem{problem}, problems)
}

func unmarshal(lines []string) (map[string]any, error) {
	all := map[string]any{}
	return all, toml.Unmarshal([]byte(strings.Join(lines, "\n")), &all)
}

// header returns the name of the table that a line begins.
func header(line string) (name string, ok bool) {
	line = strings.TrimSpace(line)
	name, _, _ = strings.Cut(strings.TrimLeft(line, "["), "]")
	return strings.TrimSpace(name), strings.HasPrefix(line, "[")
}

// keyAt returns the full key that is set in a line.
func keyAt(lines []string, line int) string {
	key, _, _ := strings.Cut(lines[line-1], "=")
	key = strings.TrimSpace(key)
	for _, above := range slices.Backward(lines[:line-1]) {
		if table, ok := header(above); ok {
			return join(table, key)
		}
	}
	return key
}

// flat returns the values by full key.
func flat(all map[string]any) map[string]any {
	values := map[string]any{}
	for name, v := range all {
		below, ok := v.(map[string]any)
		if !ok || !isTable(name) {
			values[name] = v
			continue
		}
		for key, v := range below {
			values[join(name, key)] = v
		}
	}
	return values
}

// keyLines returns the lines of all keys, and of the headers of tables. go-toml reports the place of each key that has
// no field in a struct, so the struct here has the tables and no keys.
func keyLines(lines []string, all map[string]any) map[string]int {
	var tables []reflect.StructField
	for name, v := range all {
		if _, ok := v.(map[string]any); ok && isTable(name) {
			tables = append(tables, reflect.StructField{Name: "T" + strconv.Itoa(len(tables)),
				Type: reflect.TypeFor[struct{}](), Tag: reflect.StructTag(`toml:"` + name + `"`)})
		}
	}
	d := toml.NewDecoder(bytes.NewReader([]byte(strings.Join(lines, "\n")))).DisallowUnknownFields()
	err := d.Decode(reflect.New(reflect.StructOf(tables)).Interface())
	found := map[string]int{}
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		for _, e := range slices.Backward(missing.Errors) { // the first line of a table that is set key by key
			found[strings.Join(e.Key(), ".")], _ = e.Position()
		}
	}
	for i, line := range lines {
		if name, ok := header(line); ok && found[name] == 0 {
			found[name] = i + 1
		}
	}
	return found
}

func isTable(name string) bool {
	return name != "" && slices.ContainsFunc(Tables(), func(t Table) bool { return t.Name == name })
}

func join(table, key string) string { return strings.TrimPrefix(table+"."+key, ".") }

// line returns the number of the line where a key is set, or else its table; 1 if neither is there.
func (d *document) line(full string) int {
	for full != "" {
		if n := d.lines[full]; n > 0 {
			return n
		}
		full = full[:max(strings.LastIndexByte(full, '.'), 0)]
	}
	return 1
}
