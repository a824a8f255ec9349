package docs_test

import (
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/text"
)

var (

	// messageRow is a row of the tables of messages in troubleshooting.md.
	messageRow = regexp.MustCompile("(?m)^\\| `` ?(.+?) ?`` \\||^\\| `([^`]+)` \\|")
)

// TestMessages compares the messages in troubleshooting.md with those in the code: warnings and errors in the log, and
// the warnings of `policyd status`. "…" stands for the variable parts.
func TestMessages(t *testing.T) {
	t.Parallel()
	code, other := map[string]string{}, map[string]bool{} // code: message to file; other: further warnings of the status
	for _, f := range goFiles(t, "cmd", "internal", "socketmap") {
		if f.isTest() {
			continue
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if message := messageOf(f.path, call); message != "" && strings.Trim(message, "…") != "" {
				code[squeeze(message)] = f.path
			}
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "append" && len(call.Args) == 2 {
				other[squeeze(literal(call.Args[1]))] = true
			}
			return true
		})
	}
	_, section, ok := strings.Cut(read(t, "docs/troubleshooting.md"), "\n## Messages of policyd\n")
	require.True(t, ok, "troubleshooting.md has a section for the messages of policyd")
	var entries []string
	for _, row := range messageRow.FindAllStringSubmatch(section, -1) {
		entry := squeeze(row[1] + row[2])
		entries = append(entries, entry)
		if _, ok := code[entry]; !ok && !other[entry] {
			t.Errorf("docs/troubleshooting.md: no warning or error is %q; did you mean %q?", entry, text.Nearest(entry, slices.Sorted(maps.Keys(code))))
		}
	}
	for _, message := range slices.Sorted(maps.Keys(code)) {
		if !slices.Contains(entries, message) {
			t.Errorf("docs/troubleshooting.md has no entry for %q of %s", message, code[message])
		}
	}
}

// messageOf returns the message of a call that logs a warning or an error, or adds a warning to the status; otherwise
// "".
func messageOf(path string, call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		at := map[string]int{"Warn": 0, "Error": 0, "WarnContext": 1, "ErrorContext": 1}
		i, logs := at[f.Sel.Name]
		if logs && len(call.Args) > i && !strings.HasPrefix(path, "internal/check/") {
			if lit, ok := call.Args[i].(*ast.BasicLit); ok {
				return literal(lit)
			}
		}
	case *ast.Ident:
		if f.Name == "add" && strings.Contains(path, "/status/") && len(call.Args) >= 2 {
			return verb.ReplaceAllString(literal(call.Args[1]), "…")
		}
	}
	return ""
}

// squeeze joins neighbouring variable parts.
func squeeze(message string) string {
	for strings.Contains(message, "……") {
		message = strings.ReplaceAll(message, "……", "…")
	}
	return message
}
