// Command demo shows the answers of policyd to Postfix, byte for byte, and why. It starts a built policyd and a
// resolver that knows a few invented domains, both on loopback, asks as Postfix does, and leaves nothing behind. It
// needs no root, no packages and no network.
//
// The exit status is 1 if any answer is not the expected one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
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

// settings are the defaults, except that everything is in one directory, and that no invented host is probed.
const settings = `overrides = "DIR/overrides"
server.listen = ["unix:DIR/policyd.sock"]
dns.servers = ["%s"]
cache.state_dir = "DIR"
port26.mode = "always"
port26.wait = "10s"
port26.exclude_domains = ["own.example"]
admin.socket = "DIR/admin.sock"
`

// run is the whole demonstration. It always ends the process and removes the directory.
func run(ctx context.Context, binary string, of []domain, out page) error {
	const enough = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, enough)
	defer cancel()
	return must.Catch(func() {
		lab := must.Get(dnstest.Start("127.0.0.1"))
		defer func() { _ = lab.Close() }()
		for _, d := range of {
			d.publish(lab)
		}
		dir := must.Get(os.MkdirTemp("", "policyd-demo-"))
		defer func() { _ = os.RemoveAll(dir) }()
		p := must.Get(daemon.Policyd(ctx, dir, fmt.Sprintf(settings, lab.Addr()),
			daemon.Command{Path: binary, Address: "unix:DIR/policyd.sock"}))
		defer func() { _ = p.Stop() }()
		show(ctx, p, of, out)
		must.Do(p.Stop())
	})
}

// show asks about every domain and prints the answers.
func show(ctx context.Context, p *daemon.Process, of []domain, out page) {
	out.title()
	explanations := explain(ctx, p, of)
	answers, wrong := 0, 0
	for i, d := range of {
		out.domain(d, explanations[i])
		for _, q := range d.questions() {
			got := lookup(ctx, p, q)
			out.answer(q, got)
			answers++
			if got.String() != q.want {
				wrong++
			}
		}
		out.reasons(d, explanations[i])
	}
	must.Be(wrong == 0, "%d of %d answers are not the expected ones; policyd says:\n%s", wrong, answers, p.Log)
	out.end(answers)
}
