package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// screen collects human-readable output in 80 columns: titles, rows of a label and a value, tables and lists.
type screen struct {
	strings.Builder
	colour text.Palette
	width  int       // the width of the terminal, at which list lines are cut; 0: they are not cut
	label  string    // the format of the left column of rows, such as "%-12s"
	notes  io.Writer // for notes that are not part of the output
}

// withJSONFlag adds the flag --json.
func withJSONFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool("json", false, "print JSON")
	return cmd
}

func wantsJSON(cmd *cobra.Command) bool {
	set, _ := cmd.Flags().GetBool("json") // fails only for an unknown flag
	return set
}

// show prints a value as one line of JSON with --json, or else as write writes it.
func show[T any](cmd *cobra.Command, v T, write func(*screen, T)) error {
	out := cmd.OutOrStdout()
	if wantsJSON(cmd) {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	s := &screen{notes: cmd.ErrOrStderr()}
	s.colour = text.Palette(terminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb") // no-color.org
	if file, ok := out.(*os.File); ok {
		s.width, _, _ = term.GetSize(int(file.Fd())) // 0 where it is not a terminal
	}
	write(s, v)
	_, err := io.WriteString(out, s.String())
	return err
}

// showEach shows n results in their order, and ends with the worst of their exit statuses.
func showEach[T interface{ Exit() int }](
	cmd *cobra.Command, n int, result func(i int) (T, error), text func(*screen, T),
) error {
	worst := exitOK
	for i := range n {
		r, err := result(i)
		if err == nil {
			err = show(cmd, r, func(s *screen, r T) {
				_, _ = s.WriteString(wordsIf(i > 0, "\n"))
				text(s, r)
			})
		}
		if err != nil {
			return &exit{exitNoAnswer, err} // 1 would be a result, such as that no policy applies
		}
		worst = max(worst, r.Exit())
	}
	return &exit{status: worst}
}

func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func (s *screen) linef(format string, args ...any) { _, _ = fmt.Fprintf(s, format+"\n", args...) }

func (s *screen) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(s.notes, "policyd: "+format+"\n", args...)
}

func (s *screen) title(words string) { s.linef("%s", s.bold(words)) }

func (s *screen) bold(words string) string { return s.colour.Paint(text.Bold, text.Printable(words)) }

// row writes a label and a value, in several lines if it is too long. An empty label continues the row above.
func (s *screen) row(label, format string, args ...any) {
	text.Wrap(&s.Builder, fmt.Sprintf(s.label, label), text.Printable(fmt.Sprintf(format, args...)))
}

// wordsIf returns words if the condition holds, and otherwise nothing.
func wordsIf(apply bool, words string) string { return text.Either(apply, words, "") }

// part returns words with a separator in front of them; nothing if there are no words.
func part(separator, words string) string { return wordsIf(words != "", separator+words) }

// paragraph writes lines that begin with a margin, the first of them with a mark such as "- ".
func (s *screen) paragraph(mark, words string) { text.Wrap(&s.Builder, mark, text.Printable(words)) }

// answer writes a reply as it goes to Postfix, in one line however long: a byte-for-byte answer is not wrapped.
func (s *screen) answer(label string, reply socketmap.Reply) {
	word, rest, _ := strings.Cut(reply.String(), " ")
	style := map[socketmap.Status]text.Style{socketmap.StatusOK: text.Green, socketmap.StatusTemp: text.Red,
		socketmap.StatusTimeout: text.Red, socketmap.StatusPerm: text.Red}[reply.Status]
	s.linef("%s%s", fmt.Sprintf(s.label, label), strings.TrimRight(s.colour.Paint(style, word)+" "+rest, " "))
}

// table writes rows, of which the first is the header, in aligned columns.
func (s *screen) table(rows [][]string) {
	const padding = 2
	w := tabwriter.NewWriter(s, 0, 0, padding, ' ', 0)
	for _, cells := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // a strings.Builder does not fail
}

// listed notes that a list of n entries is empty or was cut off.
func (s *screen) listed(n int, more bool, what string) {
	switch {
	case n == 0:
		s.notef("no %s", what)
	case more:
		s.notef("more than %d %s: narrow the list with --match or raise --limit", n, what)
	}
}
