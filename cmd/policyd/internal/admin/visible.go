package admin

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// read decodes an answer in JSON, without characters that could control a terminal: whatever answers at the socket may
// not be policyd.
func read(body io.Reader, v any) error {
	d := json.NewDecoder(io.LimitReader(body, maxAnswer))
	d.UseNumber()
	var answer any
	if err := d.Decode(&answer); err != nil {
		return err
	}
	text, err := json.Marshal(visible(answer))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// visible returns a JSON value with Visible strings.
func visible(v any) any {
	switch v := v.(type) {
	case string:
		return Visible(v)
	case []any:
		for i := range v {
			v[i] = visible(v[i])
		}
	case map[string]any:
		object := map[string]any{}
		for name, value := range v {
			object[Visible(name)] = visible(value)
		}
		return object
	}
	return v
}

// Visible is text.Visible for text of several lines, such as an error that shows a line of a settings file.
func Visible(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = text.Visible(line)
	}
	return strings.Join(lines, "\n")
}
