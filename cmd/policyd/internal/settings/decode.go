package settings

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// decode fills in s from a document and returns every mistake in its keys and values. A setting with a mistake keeps
// its default.
func (s *Settings) decode(d *document) (problems []Problem) {
	add := func(key, text string) { problems = append(problems, Problem{Line: d.line(key), Text: text}) }
	rows := s.rows()
	for _, key := range slices.Sorted(maps.Keys(d.values)) {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.path == key }) {
			add(key, s.unknownKey(key, d.values[key]))
		}
	}
	for _, r := range rows {
		value, set := d.values[r.path]
		if !set {
			continue
		}
		if err := assign(r.value, value); err != nil {
			add(r.path, fmt.Sprintf("%s: %s: write %s, such as %s = %s", r.path, err, r.Type, r.Key, r.Default()))
		} else if err := r.check(r.value.Interface()); err != nil {
			r.value.Set(r.byDefault)
			for text := range strings.SplitSeq(err.Error(), "\n") {
				add(r.path, r.path+": "+text)
			}
		}
	}
	return problems
}

// assign sets a field to a decoded value. The error is for a value of another type.
func assign(field reflect.Value, value any) error {
	if list, ok := value.([]any); ok && field.Kind() == reflect.Slice {
		words := []string{}
		for _, element := range list {
			word, ok := element.(string)
			if !ok {
				return fmt.Errorf("an element of the list is %s", typeName(element))
			}
			words = append(words, word)
		}
		value = words
	}
	if n, ok := value.(int64); ok && int64(int(n)) == n {
		value = int(n)
	}
	v := reflect.ValueOf(value)
	if v.Type() != field.Type() {
		return fmt.Errorf("the value is %s", typeName(value))
	}
	field.Set(v)
	return nil
}

// typeName names the type of a value in TOML's terms.
func typeName(value any) string {
	names := map[reflect.Kind]string{
		reflect.String: "a string", reflect.Bool: "a boolean", reflect.Int: "an integer", reflect.Int64: "an integer",
		reflect.Float64: "a float", reflect.Slice: "an array", reflect.Map: "a table",
	}
	return cmp.Or(names[reflect.TypeOf(value).Kind()], "a date")
}

// unknownKey returns what to write in place of a full key that is not a setting.
func (s *Settings) unknownKey(full string, value any) string {
	table, name, nested := strings.Cut(full, ".")
	if !nested {
		table, name = "", full
	}
	var here, tables, elsewhere []string
	for _, t := range s.Tables() {
		place := "at the top of the file"
		if t.Name != "" {
			tables, place = append(tables, t.Name), "under ["+t.Name+"]"
		}
		for _, r := range t.Rows {
			switch {
			case t.Name == table:
				here = append(here, r.Key)
			case r.Key == name:
				elsewhere = append(elsewhere, place)
			}
		}
	}
	_, isTable := value.(map[string]any)
	unknown := "unknown key " + text.Visible(full)
	switch {
	case slices.Contains(tables, full):
		return fmt.Sprintf("%s is a table: write [%s] in a line of its own and its keys below", full, full)
	case here == nil || isTable && !nested:
		table, _, _ = strings.Cut(full, ".")
		return nearest("unknown table ["+text.Visible(table)+"]", table, "[%s]", tables)
	case elsewhere != nil:
		return unknown + ": write it " + strings.Join(elsewhere, " or ")
	}
	return nearest(unknown, name, join(table, "%s"), here)
}

// nearest returns a message with the known word that was probably meant, or else with all of them.
func nearest(unknown, word, format string, known []string) string {
	if near := text.Nearest(word, known); near != "" {
		return unknown + ": did you mean " + fmt.Sprintf(format, near) + "?"
	}
	all := slices.Clone(known)
	for i, word := range all {
		all[i] = fmt.Sprintf(format, word)
	}
	return unknown + ": write one of " + strings.Join(all, ", ")
}
