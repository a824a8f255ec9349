// Command bench measures a built policyd on this machine: cached lookups beside a
// minimal server that knows one answer, cold lookups, memory, and the start. All of it runs on
// loopback, in processes that it starts and ends. Figures of different machines, and of different runs on a busy one, do
// not compare; the ratios in one run do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// config is the command line.
type config struct {
	policyd     string
	out         string
	quick       bool
	coldQueries bool
	only        string

	// constant is set in the processes that are the constant server: its addresses.
	constant string
	reply    string
	// watch is set in the processes that are clients: the address, and for how long.
	watch    string
	watchFor time.Duration
	// neighbours is set in the process that is the neighbours of who is watched.
	neighbours bool
}

func main() {
	var c config
	flag.StringVar(&c.policyd, "policyd", "bin/policyd", "the built `binary`")
	flag.StringVar(&c.out, "out", "docs/benchmarks.md", "the `file` to write; not written by -quick, -only and -coldqueries")
	flag.BoolVar(&c.quick, "quick", false, "measure for less than a minute: figures are rough")
	flag.BoolVar(&c.coldQueries, "coldqueries", false, "only count the DNS queries of cold lookups")
	flag.StringVar(&c.only, "only", "", "measure this `section` only and write no file: cached, cold, fresh, memory, pauses or start")
	flag.StringVar(&c.constant, "constant", "", "be the constant server on these `addresses`, separated by commas")
	flag.StringVar(&c.reply, "reply", "", "the one `reply` of the constant server")
	flag.StringVar(&c.watch, "watch", "", "be a client of this `address`")
	flag.DurationVar(&c.watchFor, "for", 0, "for how `long`")
	flag.BoolVar(&c.neighbours, "neighbours", false, "be a resolver, and look up domains as told")
	flag.Parse()
	signal.Ignore(syscall.SIGPIPE) // whoever stops reading still wants everything cleaned up
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, c)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) error {
	if c.constant != "" {
		return serveConstant(ctx, strings.Split(c.constant, ","), c.reply)
	}
	if c.watch != "" {
		return watch(ctx, c.watch, c.watchFor)
	}
	if c.neighbours {
		return beNeighbours(ctx, os.Stdin, os.Stdout)
	}
	dir, err := os.MkdirTemp("", "policyd-bench-")
	if err != nil {
		return err
	}
	b := &bench{config: c, plan: full(), dir: dir, report: &report{to: os.Stdout}}
	if c.quick {
		b.plan = quick()
	}
	return errors.Join(b.all(ctx), os.RemoveAll(dir))
}

// section is a part of the report.
type section struct {
	name    string
	measure func(context.Context) error
}

func (b *bench) sections() []section {
	return []section{
		{"cached", b.cached}, {"cold", b.coldQueries}, {"fresh", b.coldThroughput},
		{"memory", b.sizes}, {"pauses", b.pauses}, {"start", b.starts},
	}
}

// all measures everything and writes the report.
func (b *bench) all(ctx context.Context) error {
	b.report.text("# Benchmarks", "Written by `make bench`. "+machine(ctx, b.config.policyd))
	only := b.config.only
	if b.config.coldQueries {
		only = "cold"
	}
	found := false
	for _, s := range b.sections() {
		if only != "" && only != s.name {
			continue
		}
		found = true
		if err := s.measure(ctx); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no section %q", only)
	}
	b.report.text("Load average at the end: " + busy() + ", of which the last measurements have a part themselves.")
	if b.config.quick || only != "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.config.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.config.out, []byte(b.report.String()), 0o644)
}
