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

// decode fills in the settings from a document, and Mistakes with every mistake in it. A setting with a mistake keeps
// its default.
func (l *Loaded) decode(document string) {
	l.lines = map[string]int{}
	rows := l.rows()
	table, broken := "", false // keys below a broken header are not read
	for _, p := range pieces(document) {
		if p.isHeader {
			table, broken = "", false
		}
		if broken {
			continue
		}
		add := func(what string) {
			l.Mistakes = append(l.Mistakes, Problem{l.Path, p.line, text.Visible(what)})
		}
		if p.err != nil {
			add(notTOML(table, p.source, p.err))
			broken = p.isHeader
			continue
		}
		values := flat(p.decoded)
		for _, key := range slices.Sorted(maps.Keys(values)) {
			var wrong []string
			row := slices.IndexFunc(rows, func(r Row) bool { return r.path == key })
			switch before := l.lines[key]; {
			case before > 0 && p.isHeader:
				add(fmt.Sprintf("[%s] is already open in line %d: put the key there", key, before))
			case before > 0 && row >= 0:
				add(fmt.Sprintf("%s: already set in line %d: keep one of them", key, before))
			case row >= 0:
				wrong = rows[row].set(values[key])
			default:
				wrong = l.unknown(key, values[key])
			}
			for _, what := range wrong {
				add(what)
				broken = p.isHeader
			}
			top, _, _ := strings.Cut(key, ".")
			for _, name := range []string{key, top} {
				l.lines[name] = cmp.Or(l.lines[name], p.line)
			}
			if p.isHeader {
				table = key
			}
		}
	}
}

// notTOML returns the text for a mistake in the syntax of a header, or of a key of a table.
func notTOML(table, line string, err error) string {
	what := "this is not TOML: " + strings.TrimPrefix(err.Error(), "toml: ") +
		`: write key = value, with text in quotes, as in mode = "enforce"`
	if key, _, isKey := strings.Cut(line, "="); isKey && !strings.Contains(key, "[") {
		what = strings.TrimPrefix(join(table, strings.TrimSpace(key))+": "+what, ": ")
	}
	return what
}

// flat returns decoded values by full key, such as "server.listen". A table without keys is a value too.
func flat(decoded map[string]any) map[string]any {
	values := map[string]any{}
	for name, value := range decoded {
		below, _ := value.(map[string]any)
		for key, value := range below {
			values[name+"."+key] = value
		}
		if len(below) == 0 {
			values[name] = value
		}
	}
	return values
}

func join(table, key string) string { return strings.TrimPrefix(table+"."+key, ".") }

// set sets the field of a setting to a decoded value, and returns what is wrong with the value.
func (r Row) set(decoded any) (wrong []string) {
	advice := ": write " + r.Type
	if near := text.Nearest(fmt.Sprint(decoded), r.words); near != "" {
		advice += fmt.Sprintf("; did you mean %q?", near)
	} else if example := r.Default(); example != `""` && example != "[]" {
		advice += ", such as " + r.Key + " = " + example
	}
	value, bad := r.read(decoded)
	for _, b := range bad {
		what := "the value"
		switch b.(type) {
		case string, int64, bool:
			if r.path != "fleet.url" { // this URL can contain a password
				what = fmt.Sprintf("%#v", b) // shows a character that has no visible form
			}
		}
		wrong = append(wrong, r.path+": "+what+" is not valid"+advice)
	}
	list, _ := value.([]string)
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			wrong = append(wrong, fmt.Sprintf("%s: %q is in the list twice: keep one of them", r.path, s))
		}
	}
	if wrong == nil {
		r.value.Set(reflect.ValueOf(value).Convert(r.value.Type())) // a number is an int64 in TOML
	}
	return wrong
}

// unknown returns what to write in place of a key that is not a setting; nothing for one that opens a table.
func (s *Settings) unknown(key string, value any) []string {
	what, word, name := "unknown key "+key, key, key[strings.LastIndexByte(key, '.')+1:]
	_, opens := value.(map[string]any)
	if opens {
		what, word, name = "unknown table ["+key+"]", "["+key+"]", ""
	}
	var known, tables, siblings, places []string // siblings are the keys of the same table
	for _, t := range s.Tables() {
		place := "at the top of the file"
		if t.Name != "" {
			place = "under [" + t.Name + "]"
			tables = append(tables, "["+t.Name+"]")
		}
		for _, r := range t.Rows {
			known = append(known, r.path)
			if !opens && join(t.Name, name) == key {
				siblings = append(siblings, r.path)
			}
			if r.Key == name {
				places = append(places, place)
			}
		}
	}
	near := text.Nearest(word, slices.Concat(known, tables))
	if table := "[" + key + "]"; !opens && slices.Contains(tables, table) {
		near = table
	}
	switch {
	case opens && near == word:
		return nil
	case places != nil:
		what += ": write it " + strings.Join(places, " or ")
	case near != "":
		what += ": did you mean " + near + "?"
	case siblings != nil:
		what += ": write one of " + strings.Join(siblings, ", ")
	default:
		what += ": write one of " + strings.Join(tables, ", ")
	}
	return []string{what}
}
