// Package docs_test checks the documentation against the code: the table of packages, the entries for log messages, and
// the language of all text.
package docs_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	root   = ".."
	module = "github.com/policyd/policyd/"
)

var update = flag.Bool("update", false, "rewrite what is derived from the code: imports in architecture.md, testdata/english-todo.txt")

// goFile is a parsed file of Go.
type goFile struct {
	path string // relative to the root, with slashes
	file *ast.File
	set  *token.FileSet
}

func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// walk calls f for every file of the project under the directories, except build results, test data and other modules.
func walk(t *testing.T, f func(path string), dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			if d.IsDir() {
				if slices.Contains([]string{".git", "bin", "dist", "testdata", "tools", "schema"}, d.Name()) {
					return filepath.SkipDir
				}
				return nil
			}
			f(rel)
			return nil
		}))
	}
}

func goFiles(t *testing.T, dirs ...string) []goFile {
	t.Helper()
	var files []goFile
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(root, path), nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, goFile{path, file, set})
	}, dirs...)
	return files
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}

// literal returns the constant text of an expression, with "…" for each part that is known only at run time.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return literal(e.X) + literal(e.Y)
		}
	case *ast.CallExpr:
		if selector, ok := e.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "Sprintf" {
			return verb.ReplaceAllString(literal(e.Args[0]), "…")
		}
	}
	return "…"
}

var codePath = regexp.MustCompile("`((?:cmd|internal|prefix|socketmap|docs|e2e|packaging|postfix)/[^` *]+)`")

// TestPathsExist checks the paths that the documents name.
func TestPathsExist(t *testing.T) {
	t.Parallel()
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		for _, m := range codePath.FindAllStringSubmatch(read(t, path), -1) {
			_, err := os.Stat(filepath.Join(root, m[1]))
			require.NoError(t, err, path)
		}
	}, ".")
}

// TestFileNames: Go files with the same base name have the same kind of content. A test that belongs to a file has its
// name; other tests are not compared.
func TestFileNames(t *testing.T) {
	t.Parallel()
	const list = "file-names.txt"
	where := map[string][]string{}
	walk(t, func(path string) {
		if base := filepath.Base(path); strings.HasSuffix(base, ".go") && !strings.HasSuffix(base, "_test.go") {
			where[base] = append(where[base], path)
		}
	}, ".")
	kinds := map[string]string{}
	for _, line := range lines(t, list) {
		name, kind, _ := strings.Cut(line, " ")
		kinds[name] = kind
		require.Greater(t, len(where[name]), 1, "%s: remove %s", list, name)
	}
	for base, paths := range where {
		require.True(t, len(paths) == 1 || kinds[base] != "",
			"%q have one base name: rename one, or, if both have the same kind of content, describe it in docs/testdata/%s", paths, list)
	}
}

// codeName is a function or a constant after the path of its file.
var codeName = regexp.MustCompile("`([a-z0-9_/]+\\.go)`, (?:functions?|constants?) ((?:`[A-Za-z]+`(?:, | and )?)+)")

// TestNamesExist checks the functions and constants that the documents name together with their file.
func TestNamesExist(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"CONTRIBUTING.md", "docs/architecture.md"} {
		matches := codeName.FindAllStringSubmatch(strings.Join(strings.Fields(read(t, document)), " "), -1)
		require.NotEmpty(t, matches, document)
		for _, m := range matches {
			declared := read(t, m[1])
			for _, name := range strings.FieldsFunc(strings.ReplaceAll(m[2], " and ", ","), func(r rune) bool { return strings.ContainsRune("`, ", r) }) {
				declaration := regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|\t|const )` + name + `\b`)
				require.True(t, declaration.MatchString(declared), "%s: %s does not declare %s", document, m[1], name)
			}
		}
	}
}

// TestDecisions checks the form of the decision records.
func TestDecisions(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^# (\d+)\. [^\n]+\n(?s:.*)\n## Context\n(?s:.*)\n## Decision\n(?s:.*)\n## Consequences\n`)
	walk(t, func(path string) {
		m := form.FindStringSubmatch(read(t, path))
		require.NotNil(t, m, "%s: a number and a title, then the sections Context, Decision and Consequences", path)
		number, err := strconv.Atoi(filepath.Base(path)[:4])
		require.NoError(t, err, path)
		require.Equal(t, strconv.Itoa(number), m[1], path)
	}, "docs/decisions")
}

var verb = regexp.MustCompile(`%[+#]?[a-z]`)
