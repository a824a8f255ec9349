package main

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	checkreport "github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/prefix"
)

// schemas are the types that commands print as JSON, by the name of the schema. internal/check tests the schema of
// check.
func schemas() map[string]reflect.Type {
	return map[string]reflect.Type{
		"query":                 reflect.TypeFor[explain.Result](),
		"status":                reflect.TypeFor[status.Status](),
		"report":                reflect.TypeFor[report.Report](),
		"cache-list":            reflect.TypeFor[admin.CacheList](),
		"cache-get":             reflect.TypeFor[status.Domain](),
		"cache-flush":           reflect.TypeFor[admin.Flushed](),
		"reload":                reflect.TypeFor[status.Reload](),
		"log-level":             reflect.TypeFor[admin.Level](),
		"config-check":          reflect.TypeFor[checked](),
		"config-show":           reflect.TypeFor[settings.Settings](),
		"doctor":                reflect.TypeFor[doctor.Report](),
		"postfix-config":        reflect.TypeFor[doctor.Lines](),
		"postfix-config-remove": reflect.TypeFor[doctor.Removal](),
		"promises-list":         reflect.TypeFor[admin.PromiseList](),
		"promises-get":          reflect.TypeFor[promises.Entry](),
		"promises-forget":       reflect.TypeFor[admin.Forgotten](),
		"warm":                  reflect.TypeFor[warmed](),
		"version":               reflect.TypeFor[build](),
	}
}

// enumerations are the fields that take one of a few words, by their place.
func enumerations() map[string][]string {
	status := []string{"OK", "NOTFOUND", "TEMP", "PERM"}
	var prefixes []string
	for _, c := range append(prefix.Classes(), prefix.None) {
		prefixes = append(prefixes, c.String())
	}
	return map[string][]string{
		"query.dnssec":                   {"secure", "insecure", "bogus", "indeterminate"},
		"query.mx[].prefix":              prefixes,
		"query.mx[].dnssec":              {"secure", "insecure", "indeterminate"},
		"query.mta_sts.state":            {"found", "absent", "failed", "unknown"},
		"query.mta_sts.mode":             {"enforce", "testing", "none"},
		"query.tls_policy.status":        status,
		"query.tls_policy_tlsrpt.status": status,
		"query.transport.status":         status,
		"query.would_tls_policy.status":  status,
		"query.would_transport.status":   status,
		"query.source":                   {"prefix", "dane", "mta-sts", "override", "none"},
		"status.settings.mode":           {"enforce", "report", "off"},
		"report.mode":                    {"enforce", "report", "off"},
		"doctor.findings[].severity":     {"error", "warning", "untested", "note", "ok"},
		"log-level.level":                {"debug", "info", "warn", "error"},
	}
}

// schema is the part of JSON Schema that the files in docs/schema use.
type schema struct {
	Schema     string             `json:"$schema,omitempty"`
	Title      string             `json:"title,omitempty"`
	Type       []string           `json:"type,omitempty"`
	Format     string             `json:"format,omitempty"`
	Enum       []string           `json:"enum,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Properties map[string]*schema `json:"properties,omitempty"`
	// Additional is that of the values of an object without fixed names.
	Additional *schema `json:"additionalProperties,omitempty"`
	Items      *schema `json:"items,omitempty"`
}

// schemaOf returns the schema of a type.
func schemaOf(t *testing.T, of reflect.Type, where string) *schema {
	t.Helper()
	s := &schema{Enum: enumerations()[where]}
	nullable := of.Kind() == reflect.Pointer
	if nullable {
		of = of.Elem()
	}
	kind := ""
	switch {
	case of == reflect.TypeFor[settings.Settings]():
		return settingsSchema()
	case of == reflect.TypeFor[time.Time]():
		kind, s.Format = "string", "date-time"
	case of.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		kind = "string"
	case of == reflect.TypeFor[json.RawMessage]():
		kind = "object"
	case of.Kind() == reflect.Struct:
		kind, s.Properties = "object", map[string]*schema{}
		for _, f := range reflect.VisibleFields(of) {
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || name == "-" {
				continue
			}
			require.NotEmpty(t, name, "%s.%s", of, f.Name)
			if option == "" {
				s.Required = append(s.Required, name)
			}
			s.Properties[name] = schemaOf(t, f.Type, where+"."+name)
		}
	case of.Kind() == reflect.Slice:
		kind, s.Items = "array", schemaOf(t, of.Elem(), where+"[]")
	case of.Kind() == reflect.Map:
		kind, s.Additional = "object", schemaOf(t, of.Elem(), where+"{}")
	case of.Kind() == reflect.String:
		kind = "string"
	case of.Kind() == reflect.Bool:
		kind = "boolean"
	case of.Kind() >= reflect.Int && of.Kind() <= reflect.Uint64:
		kind = "integer"
	case of.Kind() == reflect.Float64:
		kind = "number"
	}
	require.NotEmpty(t, kind, "%s has a type without a schema: %s", where, of)
	s.Type = []string{kind}
	if nullable {
		s.Type = append(s.Type, "null")
	}
	return s
}

// settingsSchema returns the schema of the settings, whose names are in their table.
func settingsSchema() *schema {
	all := &schema{Type: []string{"object"}, Properties: map[string]*schema{}}
	defaults := settings.Default()
	for _, table := range defaults.Tables() {
		in := all
		if table.Name != "" {
			in = &schema{Type: []string{"object"}, Properties: map[string]*schema{}}
			all.Required, all.Properties[table.Name] = append(all.Required, table.Name), in
		}
		for _, r := range table.Rows {
			s := &schema{Type: []string{"integer"}}
			switch r.Default()[0] {
			case '"':
				s.Type = []string{"string"}
			case '[':
				s.Type, s.Items = []string{"array"}, &schema{Type: []string{"string"}}
			case 't', 'f':
				s.Type = []string{"boolean"}
			}
			in.Required, in.Properties[r.Key] = append(in.Required, r.Key), s
		}
	}
	return all
}

// A name that query and check both use stands for the same type of value.
func TestQueryAndCheckShareShapes(t *testing.T) {
	var compare func(where string, query, check *schema)
	compare = func(where string, query, check *schema) {
		require.Equal(t, query.Type[0], check.Type[0], where)
		for name, q := range query.Properties {
			if c := check.Properties[name]; c != nil {
				compare(where+"."+name, q, c)
			}
		}
		if query.Items != nil {
			compare(where+"[]", query.Items, check.Items)
		}
	}
	query := schemaOf(t, reflect.TypeFor[explain.Result](), "query")
	check := schemaOf(t, reflect.TypeFor[checkreport.Report](), "check")
	require.Contains(t, check.Properties["mx"].Items.Properties, "prefix")
	compare("", query, check)
}

// TestSchemas compares the files with the types: -update writes them.
func TestSchemas(t *testing.T) {
	for name, of := range schemas() {
		s := schemaOf(t, of, name)
		s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "policyd "+strings.ReplaceAll(name, "-", " ")+" --json"
		want, err := json.MarshalIndent(s, "", "  ")
		require.NoError(t, err)
		want = append(want, '\n')
		path := filepath.Join("..", "..", "docs", "schema", name+".json")
		if *update {
			require.NoError(t, os.WriteFile(path, want, 0o600))
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err, "run the test with -update")
		require.Equal(t, string(want), string(got), "docs/schema/%s.json differs from the type: run the test with -update", name)
	}
}

// Every command that prints JSON has a schema.
func TestEveryJSONHasASchema(t *testing.T) {
	t.Parallel()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("json") != nil {
			name := strings.ReplaceAll(strings.TrimPrefix(cmd.CommandPath(), "policyd "), " ", "-")
			require.FileExists(t, filepath.Join("..", "..", "docs", "schema", name+".json"), "add the type to schemas and run the test with -update")
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot())
}

// cmdSchema checks the last standard output against a schema: one JSON value per line, or a single value.
func cmdSchema(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: schema NAME")
	}
	text, err := os.ReadFile(filepath.Join(ts.Getenv("SCHEMAS"), args[0]+".json"))
	ts.Check(err)
	var s schema
	ts.Check(json.Unmarshal(text, &s))
	d := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile("stdout"))))
	n := 0
	for d.More() {
		var v any
		ts.Check(d.Decode(&v))
		if wrong := s.validate(args[0], v); wrong != "" {
			ts.Fatalf("%s", wrong)
		}
		n++
	}
	if n == 0 {
		ts.Fatalf("no JSON")
	}
}

// validate returns what is wrong with a value, "" if nothing is.
func (s *schema) validate(where string, v any) string {
	kind := ""
	switch v := v.(type) {
	case nil:
		kind = "null"
	case bool:
		kind = "boolean"
	case string:
		kind = "string"
		if s.Enum != nil && !slices.Contains(s.Enum, v) {
			return fmt.Sprintf("%s: %q is not one of %v", where, v, s.Enum)
		}
		if _, err := time.Parse(time.RFC3339, v); s.Format == "date-time" && err != nil {
			return where + ": " + err.Error()
		}
	case float64:
		kind = "number"
		if v == float64(int64(v)) && slices.Contains(s.Type, "integer") {
			kind = "integer"
		}
	case []any:
		kind = "array"
		for i, item := range v {
			if wrong := s.Items.validate(fmt.Sprintf("%s[%d]", where, i), item); wrong != "" {
				return wrong
			}
		}
	case map[string]any:
		kind = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return where + "." + name + " is missing"
			}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			of := s.Additional
			if s.Properties != nil {
				of = s.Properties[name]
			}
			if of == nil && s.Properties != nil {
				return where + "." + name + " is not in the schema"
			}
			if of == nil { // an object of any form
				continue
			}
			if wrong := of.validate(where+"."+name, v[name]); wrong != "" {
				return wrong
			}
		}
	}
	if !slices.Contains(s.Type, kind) {
		return fmt.Sprintf("%s: %v has the type %s, not %v", where, v, kind, s.Type)
	}
	return ""
}
