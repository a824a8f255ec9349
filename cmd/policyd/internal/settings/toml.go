package settings

import (
	"encoding/json"
	"strings"
)

// TOML returns all settings in the form of a settings file.
func (s Settings) TOML() string {
	var b strings.Builder
	for _, t := range s.Tables() {
		if t.Name != "" {
			b.WriteString("\n[" + t.Name + "]\n")
		}
		for _, r := range t.Rows {
			b.WriteString(r.Key + " = " + valueTOML(r.value.Interface()) + "\n")
		}
	}
	return b.String()
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
