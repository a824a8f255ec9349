package doctor

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

const indent = 11

// Text returns a human-readable report in 80 columns. A command stays in one line, so that it can be pasted.
func (r Report) Text(colour text.Palette) string {
	styles := map[Severity]text.Style{Error: text.Red, Warning: text.Yellow, Untested: text.Cyan, Note: text.Cyan,
		OK: text.Green}
	margin := strings.Repeat(" ", indent)
	var b strings.Builder
	for i, f := range r.Findings {
		if i == 0 || r.Findings[i-1].Area != f.Area {
			if i > 0 {
				b.WriteString("\n")
			}
			b.WriteString(colour.Paint(text.Bold, f.Area) + "\n")
		}
		label := fmt.Sprintf("  %-*s", indent-2, f.Severity)
		what := f.What
		if f.Severity != OK {
			what += " [" + f.Code + "]"
		}
		var lines strings.Builder
		text.Wrap(&lines, label, text.Visible(what))
		b.WriteString(colour.Paint(styles[f.Severity], label) + strings.TrimPrefix(lines.String(), label))
		if last := i+1 == len(r.Findings) || r.Findings[i+1].Code != f.Code; last && f.Why != "" {
			text.Wrap(&b, margin, text.Visible(f.Why)) // once, after the last finding of the kind
		}
		for _, line := range f.Change {
			b.WriteString(margin + text.Visible(line) + "\n")
		}
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
