package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// Text returns a human-readable report in 80 columns. A command that is wider stays in one line.
func (r Report) Text(colour text.Palette) string {
	var b strings.Builder
	area := ""
	for i, f := range r.Findings {
		if f.Area != area {
			if area != "" {
				b.WriteString("\n")
			}
			area = f.Area
			b.WriteString(colour.Paint(text.Bold, area) + "\n")
		}
		// What several findings in a row have in common follows the last one.
		if i+1 < len(r.Findings) && r.Findings[i+1].Code == f.Code {
			f.Why = ""
			if slices.Equal(r.Findings[i+1].Change, f.Change) {
				f.Change = nil
			}
		}
		f.text(&b, colour)
	}
	b.WriteString("\n" + colour.Paint(text.Bold, r.summary()) + "\n")
	return b.String()
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
	style := map[Severity]text.Style{Error: text.Red, Warning: text.Yellow, Untested: text.Cyan, Note: text.Cyan,
		OK: text.Green}[f.Severity]
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
	for _, line := range f.Change { // a command stays in one line, so that it can be pasted
		b.WriteString(margin + text.Visible(line) + "\n")
	}
}
