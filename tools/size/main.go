// Command size prints how large each package is and compares it with its budget. The exit status is 1 if a package is
// larger than its limit or has more than 20 types, or a file has more than 500 lines.
//
// A line of the budget file is: directory or file, limit, target. The limit is the size that no change may exceed; it
// only goes down, to the target at last. A directory includes what is below it and has no line of its own. A fourth
// field, "later", marks what came after the budget for the product: it counts for the line "later" instead.
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
	lower := flag.Bool("lower", false, "lower the limits in the budget file to what is reached")
	flag.Parse()
	if err := run(*budgets, *lower); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

// row is a line of the budget file and what was measured.
type row struct {
	directory     string // or file
	limit, target int
	later         bool
	lines, types  int // types: of the package with the most types
	largest       int // lines of the largest file
}

// The lines with the totals, without tests and what serves them: of what the budget was made for, and of what came
// later.
const product, later = "product", "later"

// servesTests reports whether a directory is for tests, although its files are not named like tests.
func servesTests(directory string) bool {
	return directory == "e2e" || strings.HasSuffix(directory, "test") || strings.HasSuffix(directory, "testkit")
}

func run(file string, lower bool) error {
	rows, err := read(file)
	if err != nil {
		return err
	}
	if err := measure(rows); err != nil {
		return err
	}
	const most, longest = 20, 500
	fmt.Printf("%-34s %7s %7s %7s %7s %9s\n", "package", "lines", "limit", "target", "types", "largest")
	var wrong []string
	for _, r := range rows {
		fmt.Printf("%-34s %7d %7d %7d %7d %9d\n", r.directory, r.lines, r.limit, r.target, r.types, r.largest)
		if r.lines > r.limit {
			wrong = append(wrong, fmt.Sprintf("%s has %d lines, its limit is %d", r.directory, r.lines, r.limit))
		}
		if r.types > most {
			wrong = append(wrong,
				fmt.Sprintf("%s has a package with %d types, %d are allowed", r.directory, r.types, most))
		}
		if r.largest > longest {
			wrong = append(wrong,
				fmt.Sprintf("%s has a file of %d lines, %d are allowed", r.directory, r.largest, longest))
		}
	}
	if lower {
		return write(file, rows)
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
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if len(fields) != 3 && (len(fields) != 4 || fields[3] != later) {
			return nil, fmt.Errorf("%s: %q is not a directory or file, limit, target and perhaps %q", file,
				strings.TrimSpace(line), later)
		}
		limit, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		target, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		rows = append(rows, &row{directory: fields[0], limit: limit, target: target, later: len(fields) == 4})
	}
	return rows, nil
}

// measure counts the Go files that are not tests.
func measure(rows []*row) error {
	types := map[string]int{} // by directory
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"bin", "dist", "testdata", "tools"}, path) ||
			len(path) > 1 && path[0] == '.'):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		lines, declared, err := count(path)
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
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
		i := slices.IndexFunc(rows, func(r *row) bool { return r.directory == total })
		if i >= 0 && !servesTests(r.directory) {
			rows[i].lines += lines
		}
		return nil
	})
}

// owner returns the row with the longest directory that contains this directory or file, or the row of the file.
func owner(rows []*row, path string) (best *row) {
	for _, r := range rows {
		contains := strings.HasPrefix(path+"/", r.directory+"/")
		if contains && (best == nil || len(r.directory) > len(best.directory)) {
			best = r
		}
	}
	return best
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

// write lowers the limits and keeps the comments.
func write(file string, rows []*row) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			i := slices.IndexFunc(rows, func(r *row) bool { return r.directory == fields[0] })
			r := rows[i]
			line = fmt.Sprintf("%-34s %7d %7d", r.directory, min(r.limit, max(r.lines, r.target)), r.target)
			if r.later {
				line += " " + later
			}
			line += "\n"
		}
		b.WriteString(line)
	}
	return os.WriteFile(file, []byte(b.String()), 0o644) //nolint:gosec // a file of the source tree
}
