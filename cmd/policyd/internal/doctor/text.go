package doctor

import (
	"fmt"
	"io"
	"strings"
)

const columns = 80

// Text writes a report for people, in 80 columns but for what is to be copied and is wider in itself.
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
		b.WriteString(change(printable(line)))
	}
}

// change writes a line to be copied. Where it is too wide the file has a line of its own, and what is still too wide goes
// on where the reader does too: after the comma of a list, which main.cf continues on an indented line, and after the &&
// of a shell. Paths and commands stay whole.
func change(text string) string {
	margin := strings.Repeat(" ", indent) + "> "
	if len(margin)+len(text) <= columns {
		return margin + text + "\n"
	}
	below := strings.Repeat(" ", len(margin))
	var b strings.Builder
	line := margin
	if file, rest, found := strings.Cut(text, ": "); found && strings.HasPrefix(strings.TrimPrefix(file, "or "), "/") {
		b.WriteString(margin + file + ":\n")
		line, text = below, rest
	}
	below += "  "
	empty := true
	for text != "" {
		part := text[:next(text)]
		text = text[len(part):]
		if !empty && len(line)+len(strings.TrimRight(part, " ")) > columns {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = below
		}
		line, empty = line+part, false
	}
	return b.String() + line + "\n"
}

// next is where a text that is to be copied may go on in another line.
func next(text string) int {
	end := len(text)
	for _, separator := range []string{", ", " && "} {
		if i := strings.Index(text, separator); i >= 0 {
			end = min(end, i+len(separator))
		}
	}
	return end
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
