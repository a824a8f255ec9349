package doctor

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

const indent = 11

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
		if i+1 < len(r.Findings) && r.Findings[i+1].Code == f.Code {
			f.Why = "" // it follows the last finding of the kind
		}
		f.text(&b, colour)
	}
	summary := "nothing to change"
	if !r.Sound() {
		summary = fmt.Sprintf("errors: %d, warnings: %d", r.Errors, r.Warnings)
	}
	if r.Untested > 0 {
		summary += fmt.Sprintf(", could not be tested: %d", r.Untested)
	}
	return b.String() + "\n" + colour.Paint(text.Bold, summary) + "\n"
}

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
