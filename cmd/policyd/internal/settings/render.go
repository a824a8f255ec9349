package settings

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// TOML returns all settings as a settings file.
func (s Settings) TOML() string {
	var b strings.Builder
	for _, t := range s.Tables() {
		if t.Name != "" {
			b.WriteString("\n[" + t.Name + "]\n")
		}
		for _, r := range t.Rows {
			b.WriteString(r.Key + " = " + valueTOML(r.value) + "\n")
		}
	}
	return b.String()
}

// Sample returns the annotated file: every setting with its documentation and its default, all commented out.
func Sample() string {
	var b strings.Builder
	b.WriteString("# Every setting of policyd with its explanation and its default. In the settings file,\n" +
		"# write only what differs. Check a change with \"policyd config check\" and apply it with\n" +
		"# \"policyd reload\".\n")
	defaults := Default()
	for _, t := range defaults.Tables() {
		if t.Name != "" {
			b.WriteString("\n[" + t.Name + "]\n")
			comment(&b, t.Doc)
		}
		for i, r := range t.Rows {
			if i > 0 || t.Doc != "" || t.Name == "" {
				b.WriteString("\n")
			}
			comment(&b, r.Doc)
			comment(&b, "Takes: "+r.Type)
			b.WriteString("#" + r.Key + " = " + r.Default() + "\n")
		}
	}
	return b.String()
}

// comment writes text as comment lines of at most 88 characters.
func comment(b *strings.Builder, text string) {
	const width = 88
	line := "#"
	for w := range strings.FieldsSeq(text) {
		if len(line)+1+len(w) > width {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + w
	}
	if line != "#" {
		b.WriteString(line + "\n")
	}
}

// valueTOML returns a setting as TOML. A JSON string is a TOML basic string, except for DEL.
func valueTOML(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.String:
		return quoted(v.String())
	case reflect.Slice:
		var all []string
		for i := range v.Len() {
			all = append(all, quoted(v.Index(i).String()))
		}
		return "[" + strings.Join(all, ", ") + "]"
	default:
		return ""
	}
}

func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return `""`
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}
