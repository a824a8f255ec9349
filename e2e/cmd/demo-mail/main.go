// Command demo-mail demonstrates the cases of the end-to-end lab: real mail through real Postfix, real unbound and a
// built policyd, to receivers that keep their promises, break them or are under attack. Each case is a line with the
// fate of the mail. It runs in namespaces of its own, so it needs root and leaves nothing behind.
//
// The exit status is 1 if any result is wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/text"
)

func main() {
	binary := flag.String("policyd", "bin/policyd", "the built `binary`")
	source := flag.String("source", ".", "the top `directory` of the source tree, where the Postfix examples are")
	logs := flag.Bool("log", false, "show the lines of the mail log too")
	flag.Parse()
	colour := text.Palette(os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(os.Stdout.Fd())))
	p := page{to: os.Stdout, colour: colour, logs: *logs}
	os.Exit(lab.Main("demo-mail", true, func(ctx context.Context) { show(ctx, *binary, *source, p) }))
}

// show runs all cases.
func show(ctx context.Context, binary, source string, p page) {
	begun := time.Now()
	l := must.Get(lab.New(lab.Options{Policyd: binary, Source: source}))
	defer l.Close()
	phases := cases.Build(l)
	must.Do(l.Start(ctx))
	all, wrong := 0, 0
	for _, phase := range phases {
		must.Do(l.Policyd.SetPort26(ctx, phase.Port26))
		p.heading(phase)
		for name, result := range phase.Run(ctx) {
			must.Be(ctx.Err() == nil, "interrupted")
			all++
			if result.Err != nil {
				wrong++
			}
			p.line(name, result)
		}
	}
	_, _ = fmt.Fprintf(p.to, "\n%d cases in %v, %d with a wrong result. Nothing is left behind.\n",
		all, time.Since(begun).Round(time.Second), wrong)
	must.Be(wrong == 0, "%d cases went wrong", wrong)
}

// page writes the demonstration.
type page struct {
	to     io.Writer
	colour text.Palette
	logs   bool
}
