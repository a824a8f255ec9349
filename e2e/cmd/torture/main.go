// Command torture does to a built policyd what an operator hopes never to see: dead and lying resolvers, full
// disks, hostile clients, storms of signals, a lack of files and memory. Of each fault it says what must hold, makes it happen, and
// checks that it held. All of it runs on loopback, in processes that it starts and ends; as root in namespaces of
// its own, where it can fill a file system and replace resolv.conf.
//
// The exit status is 1 if anything did not hold, or if a fault had to be left out without -short.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/policyd/policyd/e2e/lab"
)

// config is the command line.
type config struct {
	policyd string
	out     string
	short   bool
	only    string
	soak    time.Duration
	// root says that the program is root, in namespaces of its own.
	root bool
}

func main() { os.Exit(start()) }

func start() int {
	var c config
	flag.StringVar(&c.policyd, "policyd", "bin/policyd", "the built `binary`")
	flag.StringVar(&c.out, "out", "docs/faults.md", "the `file` to write the table to; not written by -short, -only and -soak")
	flag.BoolVar(&c.short, "short", false, "the short form: the same faults, for less than 90 seconds")
	flag.StringVar(&c.only, "only", "", "only the faults whose name matches this `expression`")
	flag.DurationVar(&c.soak, "soak", 0, "no faults, but mixed load for this `long`")
	flag.Parse()
	begin := func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := run(ctx, c); err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			return 1
		}
		return 0
	}
	if os.Getuid() != 0 {
		return begin()
	}
	c.root = true
	return lab.Isolated(begin)
}

// run plays the faults and writes the table.
func run(ctx context.Context, c config) error {
	only, err := regexp.Compile(c.only)
	if err != nil {
		return err
	}
	if c.policyd, err = filepath.Abs(c.policyd); err != nil {
		return err
	}
	cases := all()
	if c.soak > 0 {
		cases = []trial{soak(c.soak)}
	}
	dir, err := os.MkdirTemp("", "policyd-torture-") // short: the paths of sockets are in it
	if err != nil {
		return err
	}
	r := &runner{config: c, dir: dir}
	results, err := r.play(ctx, choose(cases, only))
	err = errors.Join(err, os.RemoveAll(dir))
	text := table(ctx, c, results)
	fmt.Print("\n" + text)
	if err != nil || c.short || c.only != "" || c.soak > 0 {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(c.out, []byte(text), 0o644)
}

func choose(cases []trial, only *regexp.Regexp) (chosen []trial) {
	for _, c := range cases {
		if only.MatchString(c.fault) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// all are the faults of the table, in its order.
func all() []trial {
	var cases []trial
	for _, group := range [][]trial{resolverFaults(), diskFaults(), clockFaults(), clientFaults(), signalFaults(), limitFaults(), strangers()} {
		cases = append(cases, group...)
	}
	return append(cases, soak(shortSoak))
}
