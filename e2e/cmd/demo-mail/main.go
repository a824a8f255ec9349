// Command demo-mail is the end-to-end lab as a show: real mail through real Postfix, real unbound and a built policyd,
// to receivers that keep their promises, break them or are under attack. Each case is a line with what became of
// the mail. It runs in namespaces of its own, so it needs root and leaves nothing behind.
//
// The exit status is 1 if anything is not as it should be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/e2e/lab"
)

func main() {
	binary := flag.String("policyd", "bin/policyd", "the built `binary`")
	logs := flag.Bool("log", false, "show the lines of the mail log too")
	flag.Parse()
	os.Exit(lab.Isolated(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		colour := os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(os.Stdout.Fd()))
		if err := show(ctx, *binary, page{to: os.Stdout, colour: colour, logs: *logs}); err != nil {
			fmt.Fprintln(os.Stderr, "demo-mail:", err)
			return 1
		}
		return 0
	}))
}

// show runs all cases.
func show(ctx context.Context, binary string, p page) error {
	begun := time.Now()
	root, err := root()
	if err != nil {
		return err
	}
	l, err := lab.New(lab.Options{Policyd: binary, Source: root})
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
	_, _ = fmt.Fprintf(p.to, "\n%d cases in %v, %d not as they should be. Nothing of it is left.\n",
		all, time.Since(begun).Round(time.Second), wrong)
	if wrong > 0 {
		return fmt.Errorf("%d cases went wrong", wrong)
	}
	return nil
}

// root is the top of the source tree, where the Postfix examples are.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("run it inside the source tree")
}

// page is where the show is written.
type page struct {
	to     io.Writer
	colour bool
	logs   bool
}
