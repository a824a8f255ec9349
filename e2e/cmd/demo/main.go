// Command demo shows the answers of policyd to Postfix, byte for byte, and why. It starts a built policyd and a
// resolver that knows a few invented domains, both on loopback, asks as Postfix does, and leaves nothing behind. It
// needs no root, no packages and no network.
//
// The exit status is 1 if any answer is not the expected one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/text"
)

func main() {
	binary := flag.String("policyd", "bin/policyd", "the built `binary`")
	flag.Parse()
	signal.Ignore(syscall.SIGPIPE) // clean up even if the reader has gone
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	colour := text.Palette(os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(os.Stdout.Fd())))
	if err := run(ctx, *binary, domains(), page{to: os.Stdout, colour: colour}); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// settings are the defaults, except that everything is in one directory, and that port 26 of the invented hosts is not
// probed.
const settings = `overrides = "DIR/overrides"

[server]
listen = ["unix:DIR/policyd.sock"]

[dns]
servers = ["%s"]

[cache]
state_dir = "DIR"

[port26]
mode = "always"
wait = "10s"
exclude_domains = ["own.example"]

[admin]
socket = "DIR/admin.sock"
`

// run is the whole demonstration. It always ends the process and removes the directory.
func run(ctx context.Context, binary string, of []domain, out page) (err error) {
	const enough = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, enough)
	defer cancel()
	lab, err := startLab(of)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	dir, err := os.MkdirTemp("", "policyd-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := daemon.Policyd(ctx, dir, fmt.Sprintf(settings, lab.Addr()),
		daemon.Command{Path: binary, Address: "unix:DIR/policyd.sock"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	return asker{d}.show(ctx, of, out)
}

// startLab starts a resolver that has these domains and no others.
func startLab(of []domain) (*dnstest.Server, error) {
	lab, err := dnstest.Start("127.0.0.1")
	if err != nil {
		return nil, err
	}
	for _, d := range of {
		d.publish(lab)
	}
	return lab, nil
}

// show asks about every domain and prints the answers.
func (a asker) show(ctx context.Context, of []domain, out page) error {
	out.title()
	explanations, err := a.explain(ctx, of)
	if err != nil {
		return err
	}
	answers, wrong := 0, 0
	for i, d := range of {
		out.domain(d, explanations[i])
		for _, q := range d.questions() {
			got, err := a.lookup(ctx, q)
			if err != nil {
				return fmt.Errorf("%s %s: %w", q.request.Map, q.request.Key, err)
			}
			out.answer(q, got)
			answers++
			if got.String() != q.want {
				wrong++
			}
		}
		out.reasons(d, explanations[i])
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d answers are not the expected ones; policyd says:\n%s", wrong, answers,
			a.Log)
	}
	out.end(answers)
	return nil
}
