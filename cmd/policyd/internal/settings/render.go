package settings

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/policyd/policyd/internal/text"
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
	comment(&b, `Every setting of policyd with its explanation and its default. In the settings file, write only what `+
		`differs. Check a change with "policyd config check" and apply it with "policyd reload".`)
	defaults := Default()
	for _, t := range defaults.Tables() {
		if t.Name != "" {
			b.WriteString("\n[" + t.Name + "]\n")
		}
		if t.Doc != "" {
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

// comment writes words as comment lines.
func comment(b *strings.Builder, words string) {
	var lines strings.Builder
	text.Wrap(&lines, "", words)
	for line := range strings.Lines(lines.String()) {
		b.WriteString("# " + line)
	}
}

// valueTOML returns a setting as TOML.
func valueTOML(value reflect.Value) string {
	switch v := value.Interface().(type) {
	case string:
		return quoted(v)
	case []string:
		var all []string
		for _, s := range v {
			all = append(all, quoted(s))
		}
		return "[" + strings.Join(all, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

// quoted returns text as TOML: a JSON string is a basic string, except for DEL.
func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return `""`
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}
