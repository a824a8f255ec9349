package settings

import (
	"errors"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// piece is a header, or a key below it, that was decoded by itself.
type piece struct {
	source   string // its first line
	line     int    // the line of source, or of the syntax error; from 1
	isHeader bool
	decoded  map[string]any
	err      error // a mistake in the syntax
}

// pieces returns the headers and keys of a document. Each is decoded by itself, so that one mistake does not hide
// others.
func pieces(document string) (all []piece) {
	begins := regexp.MustCompile(`^\s*(\[|[A-Za-z_][\w.-]*\s*(=|\s|$)|"[^"]*"\s*=|'[^']*'\s*=)`)
	lines := strings.Split(strings.ReplaceAll(document, "\r\n", "\n"), "\n")
	next := func(end int) int {
		for end++; end < len(lines) && !begins.MatchString(lines[end]); {
			end++ // a comment, or a value in several lines
		}
		return end
	}
	_, invalid := unmarshal("", lines)
	header := "" // the line that begins the table of the next key
	for first, end := 0, 0; first < len(lines); first = end {
		end = next(first)
		p := piece{source: lines[first], line: first + 1}
		p.isHeader = strings.HasPrefix(strings.TrimSpace(p.source), "[")
		if p.isHeader {
			header = ""
		}
		p.decoded, p.err = unmarshal(header, lines[first:end])
		for p.err != nil && invalid == nil && end < len(lines) {
			end = next(end) // a line of the value looks like a key
			p.decoded, p.err = unmarshal(header, lines[first:end])
		}
		if p.err != nil {
			row := 0 // header is in row 1
			if wrong, ok := errors.AsType[*toml.DecodeError](p.err); ok {
				row, _ = wrong.Position()
			}
			p.line = min(first+max(row-1, 1), end)
		} else if p.isHeader {
			header = p.source
		}
		all = append(all, p)
	}
	return all
}

func unmarshal(header string, lines []string) (decoded map[string]any, err error) {
	err = toml.Unmarshal([]byte(header+"\n"+strings.Join(lines, "\n")), &decoded)
	return decoded, err
}
