package settings

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/policyd/policyd/internal/text"
)

// decode fills in s from a document and returns every mistake in it. A setting with a
// mistake keeps its default.
func decode(d *document, s *Settings) (problems []Problem) {
	d, problems = splitRepeated(d)
	found, more := parse(d)
	problems = append(problems, more...)
	for _, key := range found.keys("") {
		p, unknown := unknownKey(d, key, found)
		if unknown && !slices.Contains(problems, p) { // once for all keys of an unknown table
			problems = append(problems, p)
		}
	}
	defaults := Default()
	for _, t := range Tables() {
		for _, r := range t.Rows {
			key := t.path(r)
			value, set := found.at(key)
			if !set {
				continue
			}
			if err := assign(s.field(key), value); err != nil {
				problems = append(problems, Problem{Line: d.line(key),
					Text: fmt.Sprintf("%s: %s: write %s, such as %s = %s",
						key, err, r.Type, r.Key, t.Default(r))})
				continue
			}
			if err := r.check(s.field(key).Interface()); err != nil {
				s.field(key).Set(defaults.field(key))
				problems = append(problems, Problem{Line: d.line(key), Text: key + ": " + err.Error()})
			}
		}
	}
	return problems
}

// splitRepeated reports tables and keys that are there twice, which TOML does not allow, and returns the document
// without the repetitions. The keys below a repeated header are checked on their own.
func splitRepeated(d *document) (*document, []Problem) {
	var problems []Problem
	for i, s := range d.statements {
		before := slices.IndexFunc(d.statements[:i], func(other statement) bool {
			return other.key == s.key && other.header == s.header
		})
		if before < 0 {
			continue
		}
		line := d.statements[before].first + 1
		first, last := d.section(i)
		inside := func(line int) bool { return line >= first && line <= last }
		if !s.header {
			problems = append(problems, Problem{Line: first + 1,
				Text: fmt.Sprintf("%s: already set in line %d: keep one of them", text.Visible(s.key), line)})
		} else {
			problems = append(problems, Problem{Line: first + 1,
				Text: fmt.Sprintf("[%s] is already open in line %d: put the key there", text.Visible(s.key), line)})
			unused := Default()
			more := decode(d.without(func(line int) bool { return !inside(line) }), &unused)
			problems = append(problems, more...)
		}
		rest, more := splitRepeated(d.without(inside))
		return rest, append(problems, more...)
	}
	return d, nil
}

// parse decodes a document. A statement that is not TOML is reported and left out, so that the others are checked too.
func parse(d *document) (tree, []Problem) {
	var problems []Problem
	for {
		found := tree{}
		err := toml.Unmarshal([]byte(strings.Join(d.lines, "\n")), &found)
		if err == nil {
			return found, problems
		}
		line, message := 1, err.Error()
		if wrong, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ = wrong.Position()
		}
		at := slices.IndexFunc(d.statements, func(s statement) bool { return s.first < line && line <= s.last+1 })
		name := ""
		if at >= 0 && !d.statements[at].header {
			name = text.Visible(d.statements[at].key) + ": "
		}
		problems = append(problems, Problem{Line: line, Text: name + "this is not TOML: " +
			strings.TrimPrefix(message, "toml: ") +
			`: write key = value, with text in quotes, as in mode = "enforce"`})
		if at < 0 {
			return tree{}, problems
		}
		first, last := d.section(at)
		d = d.without(func(line int) bool { return line >= first && line <= last })
	}
}

// tree is a decoded table: a value is a bool, an int64, a string, a list, another table or something that no setting
// takes.
type tree map[string]any

// keys returns the full keys of all values, and of tables without any.
func (t tree) keys(table string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		full := join(table, name)
		if below, ok := t[name].(map[string]any); ok && len(below) > 0 {
			all = append(all, tree(below).keys(full)...)
		} else {
			all = append(all, full)
		}
	}
	return all
}

// at returns a value by its full key.
func (t tree) at(full string) (reflect.Value, bool) {
	table, name, nested := strings.Cut(full, ".")
	if !nested {
		v, ok := t[full]
		return reflect.ValueOf(v), ok
	}
	below, _ := t[table].(map[string]any)
	return tree(below).at(name)
}

// assign sets a field to a decoded value. The error is for a value of another type.
func assign(field, value reflect.Value) error {
	switch {
	case field.Kind() == reflect.Slice && value.Kind() == reflect.Slice:
		list := []string{}
		for i := range value.Len() {
			element := value.Index(i).Elem()
			if element.Kind() != reflect.String {
				return fmt.Errorf("an element of the list is %s", typeName(element))
			}
			list = append(list, element.String())
		}
		field.Set(reflect.ValueOf(list))
	case field.Kind() == reflect.Int && value.Kind() == reflect.Int64:
		if field.OverflowInt(value.Int()) {
			return fmt.Errorf("%d is out of range", value.Int())
		}
		field.SetInt(value.Int())
	case field.Kind() != value.Kind() || field.Kind() == reflect.Slice:
		return fmt.Errorf("the value is %s", typeName(value))
	default:
		field.Set(value)
	}
	return nil
}

// typeName names the type of a value in TOML's terms.
func typeName(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Int64:
		return "an integer"
	case reflect.Float64:
		return "a float"
	case reflect.Slice:
		return "an array"
	case reflect.Map:
		return "a table"
	default:
		return "a date"
	}
}

// unknownKey reports whether a full key is not a setting, and what to write in its place.
func unknownKey(d *document, full string, found tree) (p Problem, unknown bool) {
	table, name, nested := strings.Cut(full, ".")
	if !nested {
		table, name = "", full
	}
	v, _ := found.at(full)
	isTable := v.Kind() == reflect.Map
	var here, tables, elsewhere []string
	for _, t := range Tables() {
		tables = append(tables, t.Name)
		for _, r := range t.Rows {
			switch {
			case t.path(r) == full, t.Name == "" && r.Key == table:
				return Problem{}, false // a table in place of a value is reported with the value
			case t.Name == table:
				here = append(here, r.Key)
			case r.Key == name:
				elsewhere = append(elsewhere, t.Name)
			}
		}
	}
	tables = tables[1:] // the first is the top of the file
	say := func(key, message string) (Problem, bool) { return Problem{Line: d.line(key), Text: message}, true }
	shown := "unknown key " + text.Visible(full) + ": "
	switch {
	case slices.Contains(tables, full) && isTable:
		return Problem{}, false // an empty table
	case slices.Contains(tables, full):
		return say(full, fmt.Sprintf("%s is a table: write [%s] in a line of its own and its keys below", full, full))
	case len(here) == 0 || isTable && !nested:
		table, _, _ = strings.Cut(full, ".")
		unknownTable := "unknown table [" + text.Visible(table) + "]: "
		if near := text.Nearest(table, tables); near != "" {
			return say(table, unknownTable+"did you mean ["+near+"]?")
		}
		return say(table, unknownTable+"the tables are ["+strings.Join(tables, "], [")+"]")
	case text.Nearest(name, here) != "":
		return say(full, shown+"did you mean "+join(table, text.Nearest(name, here))+"?")
	case len(elsewhere) > 0 && elsewhere[0] == "":
		return say(full, shown+"write it at the top of the file, before the first table")
	case len(elsewhere) > 0:
		return say(full, shown+"write it under ["+strings.Join(elsewhere, "] or [")+"]")
	case table == "":
		return say(full, shown+"the keys at the top of the file are "+strings.Join(here, ", "))
	}
	return say(full, shown+"the keys of ["+table+"] are "+strings.Join(here, ", "))
}
