package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// Text writes a report for people, in 80 columns but for what is to be copied and is wider in itself.
func (r Report) Text(w io.Writer, colour text.Palette) error {
	var b strings.Builder
	area := ""
	for _, f := range r.Findings {
		if f.Area != area {
			if area != "" {
				b.WriteString("\n")
			}
			area = f.Area
			b.WriteString(colour.Paint(text.Bold, area) + "\n")
		}
		f.text(&b, colour)
	}
	b.WriteString("\n" + colour.Paint(text.Bold, r.summary()) + "\n")
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

func (f Finding) text(b *strings.Builder, colour text.Palette) {
	style := map[Severity]text.Style{Error: text.Red, Warning: text.Yellow, Untested: text.Cyan, Note: text.Cyan, OK: text.Green}[f.Severity]
	margin := strings.Repeat(" ", indent)
	label := fmt.Sprintf("  %-*s", indent-2, f.Severity)
	what := f.What
	if f.Severity != OK {
		what += " [" + f.Code + "]"
	}
	var lines strings.Builder
	text.Wrap(&lines, label, text.Visible(what))
	if f.Why != "" {
		text.Wrap(&lines, margin, text.Visible(f.Why))
	}
	b.WriteString(colour.Paint(style, label) + strings.TrimPrefix(lines.String(), label))
	for _, line := range f.Change {
		b.WriteString(change(text.Visible(line)))
	}
}

// change writes a line to be copied. Where it is too wide the file has a line of its own, and what is still too wide goes
// on where the reader does too: after the comma of a list, which main.cf continues on an indented line, and after the &&
// of a shell. Paths and commands stay whole.
func change(command string) string {
	margin := strings.Repeat(" ", indent) + "> "
	if len(margin)+len(command) <= text.Columns {
		return margin + command + "\n"
	}
	below := strings.Repeat(" ", len(margin))
	var b strings.Builder
	line := margin
	if file, rest, found := strings.Cut(command, ": "); found && strings.HasPrefix(strings.TrimPrefix(file, "or "), "/") {
		b.WriteString(margin + file + ":\n")
		line, command = below, rest
	}
	below += "  "
	empty := true
	for command != "" {
		part := command[:next(command)]
		command = command[len(part):]
		if !empty && len(line)+len(strings.TrimRight(part, " ")) > text.Columns {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = below
		}
		line, empty = line+part, false
	}
	return b.String() + line + "\n"
}

// next is where a text that is to be copied may go on in another line.
func next(command string) int {
	end := len(command)
	for _, separator := range []string{", ", " && "} {
		if i := strings.Index(command, separator); i >= 0 {
			end = min(end, i+len(separator))
		}
	}
	return end
}
