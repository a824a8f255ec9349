package settings

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/policyd/policyd/internal/text"
)

// decode fills in the settings from a document, and Mistakes with every mistake in it. It decodes each header and each
// key by itself, so that one mistake does not hide others. A setting with a mistake keeps its default.
func (l *Loaded) decode(document string) {
	begins := regexp.MustCompile(`^\s*(\[|[A-Za-z_][\w.-]*\s*(=|\s|$)|"[^"]*"\s*=|'[^']*'\s*=)`)
	lines := strings.Split(strings.ReplaceAll(document, "\r\n", "\n"), "\n")
	l.lines = map[string]int{}
	rows := l.rows()
	next := func(end int) int {
		for end++; end < len(lines) && !begins.MatchString(lines[end]); {
			end++ // a comment, or a value in several lines
		}
		return end
	}
	_, invalid := unmarshal("", lines)
	// The line that begins the table of the next key, and its name. Keys below a broken header are not decoded.
	header, table, broken := "", "", false
	for first, end := 0, 0; first < len(lines); first = end {
		end = next(first)
		isHeader := strings.HasPrefix(strings.TrimSpace(lines[first]), "[")
		if isHeader {
			header, table, broken = "", "", false
		}
		if broken {
			continue
		}
		add := func(line int, what string) {
			l.Mistakes = append(l.Mistakes, Problem{l.Path, line, text.Visible(what)})
		}
		decoded, err := unmarshal(header, lines[first:end])
		for err != nil && invalid == nil && end < len(lines) {
			end = next(end) // a line of the value looks like a key
			decoded, err = unmarshal(header, lines[first:end])
		}
		if err != nil {
			row := 0 // that of header is 1
			if wrong, ok := errors.AsType[*toml.DecodeError](err); ok {
				row, _ = wrong.Position()
			}
			add(min(first+max(row-1, 1), end), notTOML(table, lines[first], err))
			broken = isHeader
			continue
		}
		values := flat(decoded)
		for _, key := range slices.Sorted(maps.Keys(values)) {
			var wrong []string
			row := slices.IndexFunc(rows, func(r Row) bool { return r.path == key })
			switch before := l.lines[key]; {
			case before > 0 && isHeader:
				add(first+1, fmt.Sprintf("[%s] is already open in line %d: put the key there", key, before))
			case before > 0 && row >= 0:
				add(first+1, fmt.Sprintf("%s: already set in line %d: keep one of them", key, before))
			case row >= 0:
				wrong = rows[row].set(values[key])
			default:
				wrong = l.unknown(key, values[key])
			}
			for _, what := range wrong {
				add(first+1, what)
				broken = isHeader
			}
			top, _, _ := strings.Cut(key, ".")
			for _, name := range []string{key, top} {
				l.lines[name] = cmp.Or(l.lines[name], first+1)
			}
			if isHeader {
				header, table = lines[first], key
			}
		}
	}
}

func unmarshal(header string, lines []string) (decoded map[string]any, err error) {
	err = toml.Unmarshal([]byte(header+"\n"+strings.Join(lines, "\n")), &decoded)
	return decoded, err
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
			if r.path != "fleet.url" { // which can contain a password
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
