package settings

import (
	"encoding/json"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// TOML returns all settings as a settings file.
func (s Settings) TOML() string { return s.file(false) }

// Sample returns the annotated file: every setting with its documentation and its default, all commented out.
func Sample() string { return Default().file(true) }

func (s Settings) file(annotated bool) string {
	var b strings.Builder
	for _, t := range s.Tables() {
		if t.Name != "" {
			b.WriteString("\n[" + t.Name + "]\n")
		}
		if annotated {
			comment(&b, t.Doc)
		}
		for _, r := range t.Rows {
			if annotated {
				b.WriteString("\n")
				comment(&b, r.Doc)
				comment(&b, "Takes: "+r.Type)
				b.WriteString("#")
			}
			b.WriteString(r.Key + " = " + valueTOML(r.value.Interface()) + "\n")
		}
	}
	return b.String()
}

// comment writes words as comment lines.
func comment(b *strings.Builder, words string) {
	var lines strings.Builder
	text.Wrap(&lines, "# ", words)
	b.WriteString(strings.ReplaceAll(lines.String(), "\n  ", "\n# "))
}

// valueTOML returns a setting as TOML: a JSON string is a basic string, except for DEL.
func valueTOML(value any) string {
	if list, ok := value.([]string); ok {
		var all []string
		for _, s := range list {
			all = append(all, valueTOML(s))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // a string, a number or a boolean
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}
