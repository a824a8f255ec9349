// Command torture exposes a built policyd to what operators fear: dead and lying resolvers, full disks, hostile
// clients, storms of signals, a lack of files and memory. The table of faults names what must hold under each; the
// command causes them and checks that it holds. Everything runs on loopback in processes that it starts and ends, and
// as root in namespaces of its own.
//
// The exit status is 1 if anything did not hold, or if a fault was left out without -short.
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
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
)

// config is the command line.
type config struct {
	policyd string
	short   bool
	only    string
	soak    time.Duration
	root    bool // the program is root, in namespaces of its own
}

func main() {
	var c config
	flag.StringVar(&c.policyd, "policyd", "bin/policyd", "the built `binary`")
	flag.BoolVar(&c.short, "short", false, "the same faults for a short time, less than 90 seconds")
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
	c.root = os.Getuid() == 0
	if c.root {
		os.Exit(lab.Isolated(begin))
	}
	os.Exit(begin())
}

// run plays the chosen faults.
func run(ctx context.Context, c config) error {
	only, err := regexp.Compile(c.only)
	if err != nil {
		return err
	}
	if c.policyd, err = filepath.Abs(c.policyd); err != nil {
		return err
	}
	all := faults()
	if c.soak > 0 {
		all = []fault{soak(c.soak)}
	}
	dir, err := os.MkdirTemp("", "policyd-torture-") // short: the paths of sockets are in it
	if err != nil {
		return err
	}
	r := runner{config: c, dir: dir}
	return errors.Join(r.play(ctx, choose(all, only)), os.RemoveAll(dir))
}

func choose(all []fault, only *regexp.Regexp) (chosen []fault) {
	for _, f := range all {
		if only.MatchString(f.name) {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// runner plays faults and prints a line for each.
type runner struct {
	config config
	dir    string
	mu     sync.Mutex
	errs   []error
}

// play plays the faults that mostly wait side by side, and beside them those that keep the processor busy, one at a
// time.
func (r *runner) play(ctx context.Context, all []fault) error {
	const side = 8
	var busy, waiting, lanes errgroup.Group
	busy.SetLimit(1)
	waiting.SetLimit(side)
	for _, lane := range []*errgroup.Group{&waiting, &busy} {
		lanes.Go(func() error {
			for i, f := range all {
				if f.busy == (lane == &busy) {
					lane.Go(func() error { r.one(ctx, i, f); return nil })
				}
			}
			return lane.Wait()
		})
	}
	_ = lanes.Wait() // the errors are in r
	return errors.Join(r.errs...)
}

// one plays one fault.
func (r *runner) one(ctx context.Context, number int, f fault) {
	report := func(mark, found string, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Printf("%-8s %s: %s\n", mark, f.name, found)
		if err != nil {
			r.errs = append(r.errs, err)
		}
	}
	if f.root && !r.config.root {
		var err error
		if !r.config.short {
			err = fmt.Errorf("%s: left out because it needs root", f.name)
		}
		report("left out", "needs root", err)
		return
	}
	const longest = 12 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, longest+r.config.soak)
	defer cancel()
	s := &scene{config: r.config, number: number, dir: filepath.Join(r.dir, strconv.Itoa(number))}
	begun := time.Now()
	err := os.Mkdir(s.dir, 0o700)
	found := ""
	if err == nil {
		err = must.Catch(func() { found = s.play(ctx, f) })
		err = errors.Join(err, s.end())
	}
	if err != nil {
		report("BROKEN", err.Error()+"\n         must hold: "+f.holds,
			fmt.Errorf("%s: did not hold, see above", f.name))
		return
	}
	report("held", fmt.Sprintf("%s (%.0f s)", found, time.Since(begun).Seconds()), nil)
}
