// Command demo-mail demonstrates the cases of the end-to-end lab: real mail through real Postfix, real unbound and a
// built policyd, to receivers that keep their promises, break them or are under attack. Each case is a line with the
// fate of the mail. It runs in namespaces of its own, so it needs root and leaves nothing behind.
//
// The exit status is 1 if any result is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/internal/text"
)

func main() {
	binary := flag.String("policyd", "bin/policyd", "the built `binary`")
	source := flag.String("source", ".", "the top `directory` of the source tree, where the Postfix examples are")
	logs := flag.Bool("log", false, "show the lines of the mail log too")
	flag.Parse()
	os.Exit(lab.Isolated(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		colour := text.Palette(os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(os.Stdout.Fd())))
		if err := show(ctx, *binary, *source, page{to: os.Stdout, colour: colour, logs: *logs}); err != nil {
			fmt.Fprintln(os.Stderr, "demo-mail:", err)
			return 1
		}
		return 0
	}))
}

// show runs all cases.
func show(ctx context.Context, binary, source string, p page) error {
	begun := time.Now()
	l, err := lab.New(lab.Options{Policyd: binary, Source: source})
	if err != nil {
		return err
	}
	defer l.Close()
	phases := cases.Build(l)
	if err := l.Start(ctx); err != nil {
		return err
	}
	all, wrong := 0, 0
	for _, phase := range phases {
		if err := l.Policyd.SetPort26(ctx, phase.Port26); err != nil {
			return err
		}
		p.heading(phase)
		for name, result := range phase.Run(ctx) {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			all++
			if result.Err != nil {
				wrong++
			}
			p.line(name, result)
		}
	}
	_, _ = fmt.Fprintf(p.to, "\n%d cases in %v, %d with a wrong result. Nothing is left behind.\n",
		all, time.Since(begun).Round(time.Second), wrong)
	if wrong > 0 {
		return fmt.Errorf("%d cases went wrong", wrong)
	}
	return nil
}

// page writes the demonstration.
type page struct {
	to     io.Writer
	colour text.Palette
	logs   bool
}
