package check_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// schema is as much of a JSON Schema as docs/schema/check.json uses; another keyword in it is an error.
type schema struct {
	Schema               string             `json:"$schema"`
	Title                string             `json:"title"`
	Description          string             `json:"description"`
	Defs                 map[string]*schema `json:"$defs"`
	Ref                  string             `json:"$ref"`
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Enum                 []string           `json:"enum"`
	Required             []string           `json:"required"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	Items                *schema            `json:"items"`
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	file, err := os.Open("../../docs/schema/check.json")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	d := json.NewDecoder(file)
	d.DisallowUnknownFields()
	var s schema
	require.NoError(t, d.Decode(&s))
	return &s
}

// validate returns what is wrong with a value, "" if nothing is.
func (s *schema) validate(root *schema, where string, v any) string {
	if s.Ref != "" {
		return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")].validate(root, where, v)
	}
	if s.Enum != nil {
		if text, ok := v.(string); !ok || !slices.Contains(s.Enum, text) {
			return fmt.Sprintf("%s: %v is not one of %v", where, v, s.Enum)
		}
		return ""
	}
	ok := false
	switch s.Type {
	case "string":
		var text string
		if text, ok = v.(string); ok && s.Format == "date-time" {
			_, err := time.Parse(time.RFC3339, text)
			ok = err == nil
		}
	case "boolean":
		_, ok = v.(bool)
	case "number", "integer":
		var n float64
		n, ok = v.(float64)
		ok = ok && (s.Type == "number" || n == float64(int64(n)))
	case "array":
		var list []any
		list, ok = v.([]any)
		for i, item := range list {
			if wrong := s.Items.validate(root, fmt.Sprintf("%s[%d]", where, i), item); wrong != "" {
				return wrong
			}
		}
	case "object":
		var object map[string]any
		object, ok = v.(map[string]any)
		for _, name := range s.Required {
			if _, there := object[name]; !there {
				return where + "." + name + " is missing"
			}
		}
		for name, value := range object {
			if s.Properties[name] == nil {
				return where + "." + name + " is not in the schema"
			}
			if wrong := s.Properties[name].validate(root, where+"."+name, value); wrong != "" {
				return wrong
			}
		}
	}
	if !ok {
		return fmt.Sprintf("%s: %v is no %s", where, v, s.Type)
	}
	return ""
}

// fields compares the properties of a schema with the fields of a type, all the way down.
func (s *schema) fields(t *testing.T, root *schema, of reflect.Type) {
	t.Helper()
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if s.Ref != "" {
		s = root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
	}
	switch {
	case of.Kind() == reflect.Slice:
		s.Items.fields(t, root, of.Elem())
	case of.Kind() == reflect.Struct && of != reflect.TypeFor[time.Time]():
		require.NotNil(t, s.AdditionalProperties, of)
		require.False(t, *s.AdditionalProperties, of)
		var names, required []string
		for f := range of.Fields() {
			name, optional, _ := strings.Cut(f.Tag.Get("json"), ",")
			names = append(names, name)
			if optional == "" {
				required = append(required, name)
			}
			require.NotNil(t, s.Properties[name], "%s.%s is not in the schema", of, name)
			s.Properties[name].fields(t, root, f.Type)
		}
		require.ElementsMatch(t, names, slices.Collect(maps.Keys(s.Properties)), of)
		require.ElementsMatch(t, required, s.Required, of)
	}
}

func TestSchemaDescribesTheReport(t *testing.T) {
	t.Parallel()
	s := readSchema(t)
	s.fields(t, s, reflect.TypeFor[report.Report]())
}

func TestReportsAreAsTheSchemaSays(t *testing.T) {
	t.Parallel()
	s := readSchema(t)
	l := newLab(t)
	l.options.Verbose = true
	l.sound("kept.example", "smtps-a.kept.example")
	l.domain("broken.example", signed(), "starttls-b.broken.example", "smtps-c.broken.example", "mx.broken.example")
	l.receive(l.host("starttls-b.broken.example"), smtptest.Behaviour{})
	l.receive(l.host("smtps-c.broken.example"), smtptest.Behaviour{Cert: l.cert("other.example"), STARTTLS: "454 no"})
	var reports []report.Report
	for _, name := range []string{"kept.example", "broken.example", "nowhere.example", "no domain"} {
		reports = append(reports, l.check(name))
	}
	l.options.NoConnect = true
	reports = append(reports, l.check("kept.example"))
	for _, r := range reports {
		text, err := json.Marshal(r)
		require.NoError(t, err)
		var v any
		require.NoError(t, json.Unmarshal(text, &v))
		require.Empty(t, s.validate(s, r.Input, v), "%s", text)
	}
	require.NotEmpty(t, s.validate(s, "", map[string]any{"input": "x"}), "the test can fail")
}
