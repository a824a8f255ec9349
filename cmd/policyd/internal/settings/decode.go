package settings

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// decode fills in s from a document and returns every mistake in its keys and values. A setting with a mistake keeps
// its default.
func decode(d *document, s *Settings) (problems []Problem) {
	for _, key := range slices.Sorted(maps.Keys(d.values)) {
		if message := unknownKey(key, d.values[key]); message != "" {
			problems = append(problems, Problem{Line: d.line(key), Text: message})
		}
	}
	defaults := Default()
	for _, t := range Tables() {
		for _, r := range t.Rows {
			key := t.path(r)
			value, set := d.values[key]
			if !set {
				continue
			}
			if err := assign(s.field(key), reflect.ValueOf(value)); err != nil {
				problems = append(problems, Problem{Line: d.line(key),
					Text: fmt.Sprintf("%s: %s: write %s, such as %s = %s", key, err, r.Type, r.Key, t.Default(r))})
				continue
			}
			if err := r.check(s.field(key).Interface()); err != nil {
				s.field(key).Set(defaults.field(key))
				for text := range strings.SplitSeq(err.Error(), "\n") {
					problems = append(problems, Problem{Line: d.line(key), Text: key + ": " + text})
				}
			}
		}
	}
	return problems
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

// unknownKey returns what to write in place of a full key that is not a setting; "" for a setting.
func unknownKey(full string, value any) string {
	table, name, nested := strings.Cut(full, ".")
	if !nested {
		table, name = "", full
	}
	_, isTable := value.(map[string]any)
	var here, tables, elsewhere []string
	for _, t := range Tables() {
		tables = append(tables, t.Name)
		for _, r := range t.Rows {
			switch {
			case t.path(r) == full:
				return "" // a table in place of a value is reported with the value
			case t.Name == table:
				here = append(here, r.Key)
			case r.Key == name:
				elsewhere = append(elsewhere, t.Name)
			}
		}
	}
	tables = tables[1:] // the first is the top of the file
	shown := "unknown key " + text.Visible(full) + ": "
	switch {
	case slices.Contains(tables, full):
		return fmt.Sprintf("%s is a table: write [%s] in a line of its own and its keys below", full, full)
	case len(here) == 0 || isTable && !nested:
		table, _, _ = strings.Cut(full, ".")
		unknownTable := "unknown table [" + text.Visible(table) + "]: "
		if near := text.Nearest(table, tables); near != "" {
			return unknownTable + "did you mean [" + near + "]?"
		}
		return unknownTable + "the tables are [" + strings.Join(tables, "], [") + "]"
	case text.Nearest(name, here) != "":
		return shown + "did you mean " + join(table, text.Nearest(name, here)) + "?"
	case len(elsewhere) > 0 && elsewhere[0] == "":
		return shown + "write it at the top of the file, before the first table"
	case len(elsewhere) > 0:
		return shown + "write it under [" + strings.Join(elsewhere, "] or [") + "]"
	case table == "":
		return shown + "the keys at the top of the file are " + strings.Join(here, ", ")
	}
	return shown + "the keys of [" + table + "] are " + strings.Join(here, ", ")
}
