package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/prefix"
)

// TestSchemasListEveryPrefix compares each list of prefixes in the JSON schemas with the package prefix.
func TestSchemasListEveryPrefix(t *testing.T) {
	t.Parallel()
	classes := []string{prefix.None.String()}
	for _, c := range prefix.Classes() {
		classes = append(classes, c.String())
	}
	files, err := filepath.Glob("schema/*.json")
	require.NoError(t, err)
	lists := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var schema any
		require.NoError(t, json.Unmarshal(text, &schema))
		for _, list := range enums(schema) {
			if slices.Contains(list, prefix.SMTPS.String()) {
				require.ElementsMatch(t, classes, list, file)
				lists++
			}
		}
	}
	require.Positive(t, lists)
}

// enums returns the values of all keywords "enum" in a schema.
func enums(node any) (lists [][]string) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			if values, ok := value.([]any); ok && key == "enum" {
				var list []string
				for _, v := range values {
					if s, ok := v.(string); ok {
						list = append(list, s)
					}
				}
				lists = append(lists, list)
			}
			lists = append(lists, enums(value)...)
		}
	case []any:
		for _, value := range node {
			lists = append(lists, enums(value)...)
		}
	}
	return lists
}
