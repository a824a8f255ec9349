// Command size prints how large each package is and compares it with its budget. The exit status is 1 if a package is
// larger than its budget or has more than 20 types, or a file, tests included, has more than 500 lines.
//
// A line of the budget file is: directory, budget. A directory includes what is below it and has no line of its own.
// Functions that came after the first version have lines of the form: name, budget, "later", directories and files. A
// line that begins with a blank continues this list. These files count for the line "later", and not for the
// directories that they are in.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

func main() {
	budgets := flag.String("budgets", "tools/size/budgets", "the budget `file`")
	flag.Parse()
	if err := run(*budgets); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

// row is a line of the budget file and what was measured.
type row struct {
	name         string
	paths        []string // directories and files
	budget       int      // lines
	later        bool
	lines, types int // types: of the package with the most types
	largest      int // lines of the largest file
	longest      int // lines of the longest test
}

// The lines with the totals, without tests and their helpers: for the first version, and for what came later.
const product, later = "product", "later"

// servesTests reports whether a directory is for tests, although its files are not named like tests.
func servesTests(directory string) bool {
	return directory == "e2e" || strings.HasSuffix(directory, "test") || strings.HasSuffix(directory, "testkit")
}

func run(file string) error {
	rows, err := read(file)
	if err != nil {
		return err
	}
	if err := measure(rows); err != nil {
		return err
	}
	const most, longest = 20, 500
	fmt.Printf("%-24s %7s %7s %7s %9s\n", "package", "lines", "budget", "types", "largest")
	var wrong []string
	came := false
	for _, r := range rows {
		if r.later && !came {
			fmt.Println("what came later:")
			came = true
		}
		fmt.Printf("%-24s %7d %7d %7d %9d\n", r.name, r.lines, r.budget, r.types, r.largest)
		if r.lines > r.budget {
			wrong = append(wrong, fmt.Sprintf("%s has %d lines, its budget is %d", r.name, r.lines, r.budget))
		}
		if r.types > most {
			wrong = append(wrong,
				fmt.Sprintf("%s has a package with %d types, %d are allowed", r.name, r.types, most))
		}
		if n := max(r.largest, r.longest); n > longest {
			wrong = append(wrong, fmt.Sprintf("%s has a file of %d lines, %d are allowed", r.name, n, longest))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("over budget:\n  %s", strings.Join(wrong, "\n  "))
	}
	return nil
}

func read(file string) ([]*row, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var rows []*row
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] == "#":
			continue
		case line[0] == ' ' && len(rows) > 0 && rows[len(rows)-1].later:
			last := rows[len(rows)-1]
			last.paths = append(last.paths, fields...)
			continue
		case len(fields) != 2 && (len(fields) < 4 || fields[2] != later):
			return nil, fmt.Errorf("%s: %q is neither a directory and its budget nor a name, budget, %q and paths",
				file, strings.TrimSpace(line), later)
		}
		r := &row{name: fields[0], paths: fields[:1]}
		r.budget, err = strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(fields) > 2 {
			r.later, r.paths = true, fields[3:]
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// measure counts the Go files. Of tests, only the length of each file counts.
func measure(rows []*row) error {
	types := map[string]int{} // by directory
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"bin", "dist", "testdata", "tools"}, path) ||
			len(path) > 1 && path[0] == '.'):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		lines, declared, err := count(path)
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
		if strings.HasSuffix(path, "_test.go") {
			if r := owner(rows, path); r != nil {
				r.longest = max(r.longest, lines)
			}
			return nil
		}
		directory := filepath.Dir(path)
		r, whole := owner(rows, path), owner(rows, directory)
		if r == nil || whole == nil {
			return fmt.Errorf("%s is not in the budget file", directory)
		}
		types[directory] += declared
		whole.types = max(whole.types, types[directory])
		r.lines += lines
		r.largest = max(r.largest, lines)
		total := product
		if r.later {
			total = later
		}
		i := slices.IndexFunc(rows, func(r *row) bool { return r.name == total })
		if i >= 0 && !servesTests(r.name) {
			rows[i].lines += lines
		}
		return nil
	})
}

// owner returns the row of this directory or file, or else of the innermost directory with a row that it is in.
func owner(rows []*row, path string) *row {
	for ; path != "."; path = filepath.ToSlash(filepath.Dir(path)) {
		if i := slices.IndexFunc(rows, func(r *row) bool { return slices.Contains(r.paths, path) }); i >= 0 {
			return rows[i]
		}
	}
	return nil
}

// count returns the lines and the declared types of a file.
func count(path string) (lines, types int, err error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
	if err != nil {
		return 0, 0, err
	}
	for _, d := range parsed.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			types += len(g.Specs)
		}
	}
	return bytes.Count(source, []byte("\n")), types, nil
}
