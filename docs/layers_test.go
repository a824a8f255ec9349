package docs_test

import (
	"go/ast"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var layerRow = regexp.MustCompile(`(?m)^\| (\d) \| (.+?) \| (.+?) \| (.*?) ?\|$`)

// TestLayerTable compares the table of packages in architecture.md with the imports. An import must lead to a lower
// layer. The packages below cmd/policyd are one layer.
func TestLayerTable(t *testing.T) {
	t.Parallel()
	const file = "docs/architecture.md"
	imports, helpers := map[string][]string{}, map[string]bool{} // helpers are packages for tests only
	for _, f := range goFiles(t, "cmd", "internal", "socketmap", "prefix") {
		pkg := layerOf(path.Dir(f.path))
		if f.isTest() {
			continue
		}
		imports[pkg] = append(imports[pkg], []string{}...)
		for _, i := range f.file.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			require.NoError(t, err)
			helpers[pkg] = helpers[pkg] || name == "testing"
			if name, ours := strings.CutPrefix(name, module); ours && layerOf(name) != pkg {
				imports[pkg] = append(imports[pkg], layerOf(name))
			}
		}
	}
	for pkg := range helpers {
		if helpers[pkg] {
			delete(imports, pkg)
		}
	}
	text := read(t, file)
	layers := map[string]int{}
	for _, row := range layerRow.FindAllStringSubmatch(text, -1) {
		layer, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		layers[strings.Trim(row[2], "`")] = layer
	}
	for pkg, all := range imports {
		require.Contains(t, layers, pkg, "%s has no row for it", file)
		for _, i := range all {
			require.Less(t, layers[i], layers[pkg], "%s imports %s, which is not in a lower layer: see %s", pkg, i, file)
		}
	}
	for pkg := range layers {
		require.Contains(t, imports, pkg, "%s has a row for a package that does not exist", file)
	}
	want := layerRow.ReplaceAllStringFunc(text, func(row string) string {
		cells := layerRow.FindStringSubmatch(row)
		list := slices.Compact(slices.Sorted(slices.Values(imports[strings.Trim(cells[2], "`")])))
		return strings.TrimSuffix("| "+cells[1]+" | "+cells[2]+" | "+cells[3]+" | "+short(list), " ") + " |"
	})
	if *update {
		require.NoError(t, os.WriteFile("architecture.md", []byte(want), 0o600))
		return
	}
	require.Equal(t, layerRow.FindAllString(want, -1), layerRow.FindAllString(text, -1), "run the test with -update")
}

// TestEnumerations: an enumeration is a string type. The exceptions are numbers because they index an array, are packed
// into one octet, or have an order.
func TestEnumerations(t *testing.T) {
	t.Parallel()
	var numbers []string
	for _, f := range goFiles(t, "cmd", "internal", "socketmap", "prefix") {
		ast.Inspect(f.file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil && len(spec.Values) == 1 {
				name, isName := spec.Type.(*ast.Ident)
				if value, ok := spec.Values[0].(*ast.Ident); ok && value.Name == "iota" && isName {
					numbers = append(numbers, f.file.Name.Name+"."+name.Name)
				}
			}
			return true
		})
	}
	require.ElementsMatch(t, []string{"dns.Status", "prefix.Class", "socketmap.Status", "stub.Result"}, numbers)
}

func layerOf(pkg string) string {
	if strings.HasPrefix(pkg, "cmd/policyd") {
		return "cmd/policyd"
	}
	return pkg
}

// short lists packages without "internal/".
func short(packages []string) string {
	var names []string
	for _, p := range packages {
		names = append(names, strings.TrimPrefix(p, "internal/"))
	}
	return strings.Join(names, ", ")
}
