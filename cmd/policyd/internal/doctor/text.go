package doctor

import (
	"fmt"
	"io"
	"strings"
)

const columns = 80

// Text writes a report for people, in 80 columns but for lines that are to be copied.
func (r Report) Text(w io.Writer, colour bool) error {
	var b strings.Builder
	area := ""
	for _, f := range r.Findings {
		if f.Area != area {
			if area != "" {
				b.WriteString("\n")
			}
			area = f.Area
			b.WriteString(paint(colour, "1", area) + "\n")
		}
		f.text(&b, colour)
	}
	b.WriteString("\n" + paint(colour, "1", r.summary()) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) summary() string {
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{r.Errors, "error"}, {r.Warnings, "warning"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.word)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", p.n, p.word))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing to change"}
	}
	if r.Untested > 0 {
		parts = append(parts, fmt.Sprintf("%d could not be tested", r.Untested))
	}
	return strings.Join(parts, ", ")
}

const indent = 11

func (f Finding) text(b *strings.Builder, colour bool) {
	code := map[Severity]string{Error: "31", Warning: "33", Untested: "36", Note: "36", OK: "32"}[f.Severity]
	label := fmt.Sprintf("%-*s", indent-2, f.Severity)
	b.WriteString("  " + paint(colour, code, label))
	what := f.What
	if f.Severity != OK {
		what += " [" + f.Code + "]"
	}
	b.WriteString(strings.TrimLeft(wrap(what), " "))
	if f.Why != "" {
		b.WriteString(wrap(f.Why))
	}
	for _, line := range f.Change {
		b.WriteString(strings.Repeat(" ", indent) + "> " + printable(line) + "\n")
	}
}

// wrap fills lines that begin at the indentation.
func wrap(text string) string {
	var b strings.Builder
	margin := strings.Repeat(" ", indent)
	line := margin
	for word := range strings.FieldsSeq(printable(text)) {
		if line != margin && len(line)+1+len(word) > columns {
			b.WriteString(line + "\n")
			line = margin
		}
		if line != margin {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}

// printable makes what comes from elsewhere fit for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func paint(colour bool, code, text string) string {
	if !colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
