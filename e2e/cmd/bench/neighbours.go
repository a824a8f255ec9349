package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/internal/dns/dnstest"
)

// neighbours are the resolver, and clients that look up new domains, while somebody else is watched: a process of its own. An idle
// one gets the processor when nobody else wants it, sched(7), so that what it does is not taken for a pause of policyd.
type neighbours struct {
	resolver string // the address
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Scanner
	problems strings.Builder
}

// order is what neighbours are told: to publish so many domains with a prefix, of which the answers last that long, and to look
// them up.
type order struct {
	letter string // the beginning of their names
	n      int
	ttl    time.Duration
	// connections to the address, over which they are looked up.
	connections int
	address     string
}

func (b *bench) startNeighbours(ctx context.Context, idle bool) (n *neighbours, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n = &neighbours{cmd: exec.CommandContext(ctx, self, "-neighbours")}
	n.cmd.Stderr = &n.problems
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.out = bufio.NewScanner(out)
	start := n.cmd.Start
	if idle {
		start = func() error { return idly(n.cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, err
	}
	if n.resolver, err = n.heard(); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	return n, nil
}

// idly calls f on a thread that gets the processor when nobody else wants it. What f starts is as idle.
func idly(f func() error) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and it is never unlocked: the thread ends with the goroutine
		err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	return <-failed
}

// do has an order carried out.
func (n *neighbours) do(o order) error {
	if _, err := fmt.Fprintln(n.in, o.letter, o.n, o.ttl.Nanoseconds(), o.connections, o.address); err != nil {
		return err
	}
	said, err := n.heard()
	if err == nil && said != done {
		err = errors.New(said)
	}
	return err
}

// heard is the next line that they say.
func (n *neighbours) heard() (string, error) {
	if n.out.Scan() {
		return n.out.Text(), nil
	}
	return "", fmt.Errorf("no answer: %w", errors.Join(n.out.Err(), io.ErrUnexpectedEOF))
}

func (n *neighbours) stop() error {
	err := errors.Join(n.in.Close(), n.cmd.Wait())
	if err != nil {
		err = fmt.Errorf("neighbours: %w: %s", err, n.problems.String())
	}
	return err
}

// done is what neighbours say of an order that is carried out.
const done = "done"

// beNeighbours carries out orders until there are no more.
func beNeighbours(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	lab, err := dnstest.Start("127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	if _, err := fmt.Fprintln(out, lab.Addr()); err != nil {
		return err
	}
	for orders := bufio.NewScanner(in); orders.Scan(); {
		said := done
		if err := carryOut(ctx, lab, orders.Text()); err != nil {
			said = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		if _, err := fmt.Fprintln(out, said); err != nil {
			return err
		}
	}
	return nil
}

func carryOut(ctx context.Context, lab *dnstest.Server, text string) error {
	var o order
	if _, err := fmt.Sscan(text, &o.letter, &o.n, &o.ttl, &o.connections, &o.address); err != nil {
		return err
	}
	domains := make([]string, o.n)
	for i := range domains {
		domains[i] = numbered(o.letter, i)
		prefixed().last(o.ttl).publish(lab, domains[i], 0)
	}
	return (&server{unix: o.address}).fill(ctx, o.connections, domains)
}

func numbered(letter string, i int) string { return fmt.Sprintf("%s%07d.example", letter, i) }
